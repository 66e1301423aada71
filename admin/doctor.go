package admin

import "context"

// Finding is the doctor's result of one check.
type Finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Says is for the operator: what was found, and what to do about it.
	Says string `json:"says"`
}

// Diagnosis has the results of all checks.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
}

// LookAgain asks for another look in the background: see Examiner.Again.
func (s *Service) LookAgain(ctx context.Context) error {
	s.Examiner.Again()
	return s.Store.Note(ctx, s.action(ctx, ActionExamined, "", "", ""))
}

func (s *Service) doctor(ctx context.Context, _ Done) (Diagnosis, error) {
	return Diagnosis{s.Doctor(ctx)}, nil
}
