package web

import (
	"encoding/json"

	"nestbox/internal/seal"
)

// sealed returns what a form carries from one step to the next, for its hidden field.
func sealed(box *seal.Box, label string, v any) string {
	raw, _ := json.Marshal(v) // texts, times and flags cannot fail
	return box.SealText(raw, label)
}

// unsealed reads what sealed made for the same label into v, and reports whether it is so.
func unsealed(box *seal.Box, label, text string, v any) bool {
	raw, err := box.OpenText(text, label)
	return err == nil && json.Unmarshal(raw, v) == nil
}
