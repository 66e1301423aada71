package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/repo"
	"nestbox/request"
)

type (
	// AdoptArgs name an account that the server has lost. Handle is empty for the one that its DID
	// names.
	AdoptArgs struct {
		DID    string `json:"did"`
		Email  string `json:"email"`
		Handle string `json:"handle,omitempty"`
	}

	// AdoptLine is what came of it.
	AdoptLine struct {
		AccountLine

		Records int64 `json:"records"`
		// Missing is how many blobs records refer to: no copy of a repository has them.
		Missing int64 `json:"missing"`
	}
)

// adopt brings back an account that the server has lost, deactivated. It reads its repository,
// which the key of its DID has signed, from in, and makes the DID name a new key.
func (s *Service) adopt(ctx context.Context, raw []byte, in io.Reader, out io.Writer) error {
	var args AdoptArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	did, err := syntax.ParseDID(args.DID)
	if err != nil {
		return fmt.Errorf("%q: %w", args.DID, err)
	}
	was, err := s.Hosting.Orphan(ctx, did)
	if err != nil {
		return fmt.Errorf("%s: %w", did, err)
	}
	file, err := s.Repos.Receive(ctx, in, s.Repos.MaxImportSize(), nil)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.SignedBy(did, was.SigningKey()); err != nil {
		return err
	}
	if _, err := file.Examine(ctx, repo.Account{DID: did}, nil); err != nil {
		return err
	}
	if args.Handle == "" {
		args.Handle = was.Handle().String()
	}
	line, err := s.adopted(ctx, did, args, file)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(line)
}

// adopted is adopt once everything was verified.
func (s *Service) adopted(ctx context.Context, did syntax.DID, args AdoptArgs, file *repo.Received) (line AdoptLine, err error) {
	password := newPassword()
	a, err := s.Hosting.MoveIn(ctx, did, hosting.NewAccount{
		Handle: args.Handle, Email: args.Email, Password: password, Owner: did, ByAdmin: true,
	})
	if err != nil {
		return line, err
	}
	if err := s.Store.Note(ctx, s.action(ctx, ActionAdopt, did, "", "")); err != nil {
		return line, fmt.Errorf("the account was made, with the password %s: %w", password, err)
	}
	request.Event(ctx, request.EventAccountCreated, did.String(), request.Source(request.SourceOperator),
		slog.Bool("invited", false), slog.Bool("deactivated", true))
	if line.Records, line.Missing, err = s.filled(ctx, a, file); err != nil {
		return line, fmt.Errorf("the account was made, with the password %s; "+
			"go on with nestbox repo import and nestbox identity repair: %w", password, err)
	}
	line.AccountLine = accountLine(a)
	line.Password = password
	return line, nil
}

// filled gives an account that was made its repository, and its DID the new key.
func (s *Service) filled(ctx context.Context, a *account.Account, file *repo.Received) (records, missing int64, err error) {
	here, err := s.Repos.Accounts.Find(ctx, a.DID.AtIdentifier())
	if err != nil {
		return 0, 0, err
	}
	first, err := s.Repos.Summary(ctx, a.ID)
	if err != nil {
		return 0, 0, err
	}
	done, err := file.Import(ctx, here, first.Head.CID.String())
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.Hosting.RepairIdentity(ctx, a, false); err != nil {
		return 0, 0, err
	}
	expected, there, err := s.Blobs.Count(ctx, a.ID)
	return done.Records, expected - there, err
}
