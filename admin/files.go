package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"nestbox/control"
	"nestbox/repo"
)

// ImportLine is what an import came to.
type ImportLine struct {
	DID     string `json:"did"`
	CID     string `json:"cid"`
	Rev     string `json:"rev"`
	Records int64  `json:"records"`
	// Kept reports whether the commit is the file's own.
	Kept bool `json:"kept"`
	// Malformed is how many records could not be written here, and are kept as they
	// are.
	Malformed int64 `json:"malformed"`
}

// FileCommands are the commands with a file, by name.
func (s *Service) FileCommands() map[string]control.FileCommand {
	return map[string]control.FileCommand{
		"account.adopt": s.adopt,
		"repo.export": s.withFile(func(ctx context.Context, a repo.Account, _ io.Reader, out io.Writer) error {
			if err := s.Store.Note(ctx, s.action(ctx, ActionExport, a.DID, "", "")); err != nil {
				return err
			}
			return s.Repos.Export(ctx, a, out)
		}),
		"repo.import": s.withFile(func(ctx context.Context, a repo.Account, in io.Reader, out io.Writer) error {
			if err := s.Store.Note(ctx, s.action(ctx, ActionImport, a.DID, "", "")); err != nil {
				return err
			}
			done, err := s.Repos.Import(ctx, a, in)
			if err != nil {
				return err
			}
			return json.NewEncoder(out).Encode(ImportLine{
				DID: a.DID.String(), CID: done.CID.String(), Rev: done.Rev.String(), Records: done.Records, Kept: done.Kept, Malformed: done.Odd,
			})
		}),
	}
}

// withFile turns a function about one account's repository into a FileCommand.
func (s *Service) withFile(run func(ctx context.Context, a repo.Account, in io.Reader, out io.Writer) error) control.FileCommand {
	return func(ctx context.Context, raw []byte, in io.Reader, out io.Writer) error {
		var args AccountArgs
		if err := json.Unmarshal(raw, &args); err != nil {
			return fmt.Errorf("read arguments: %w", err)
		}
		acc, err := s.find(ctx, args.Account)
		if err != nil {
			return err
		}
		a, err := s.Repos.Accounts.Find(ctx, acc.DID.AtIdentifier())
		if err != nil {
			return fmt.Errorf("%q: %w", args.Account, err)
		}
		return run(ctx, a, in, out)
	}
}
