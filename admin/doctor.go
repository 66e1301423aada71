package admin

import "context"

// Finding is what the doctor says of one thing.
type Finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Says is in words for the operator: what was seen, and what to do about it.
	Says string `json:"says"`
}

// Diagnosis is all that the doctor looked at.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
}

func (s *Service) doctor(ctx context.Context, _ Done) (Diagnosis, error) {
	return Diagnosis{s.Doctor(ctx)}, nil
}
