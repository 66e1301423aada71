package main

import (
	"fmt"
	"strings"
	"time"

	"nestbox/server"
	"nestbox/store"
)

// undoneTexts say of each kind what has become of it, and what to do.
var undoneTexts = []struct {
	kind store.UndoneKind
	text string
}{
	{store.UndonePassword, "old passwords count again: nestbox account password"},
	{store.UndoneSession, "sessions that had ended go on: nestbox session revoke, or account signout"},
	{store.UndoneGrant, "apps have access again: nestbox session revoke, or account signout"},
	{store.UndoneBrowser, "browsers are signed in again: nestbox account signout"},
	{store.UndoneAppPassword, "app passwords that were revoked count again: nestbox account signout --app-passwords"},
	{store.UndoneConsent, "apps that had lost their owner's consent have it again"},
	{store.UndonePasskey, "passkeys that were removed count again"},
	{store.UndoneRecovery, "accounts have recovery codes again that were used or replaced"},
	{store.UndoneFactorOn, "second factors are lost: their owners must set them up again"},
	{store.UndoneFactorOff, "second factors that were turned off are asked for again: nestbox account factors"},
	{store.UndoneEmail, "accounts have their old address: nestbox account email"},
	{store.UndoneDeleted, "accounts that were deleted are back: nestbox account delete"},
	{store.UndoneTakedown, "accounts that were taken down are back: nestbox account takedown"},
	{store.UndoneSuspension, "accounts that were suspended are back: nestbox account suspend"},
	{store.UndoneDeactivation, "accounts that were deactivated, perhaps because they moved away, are active again"},
	{store.UndoneContentTakedown, "records or files that were taken down are back: nestbox takedown"},
	{store.UndoneTakedownLifted, "takedowns and suspensions that were lifted count again: nestbox account untakedown, unsuspend"},
	{store.UndoneRole, "accounts have a role on the admin page again that was taken from them: nestbox admin remove"},
	{store.UndoneInvite, "invite codes that were disabled work again: nestbox invite disable"},
	{store.UndoneHandle, "accounts have their old handle: nestbox account handle"},
	{store.UndoneSigningKey, "accounts have a signing key that their DID document does not name: nestbox identity repair"},
	{store.UndoneMade, "accounts that were made since are lost, while their DIDs name this server: nestbox account adopt"},
}

// undoneShown is how many of a kind a terminal shows.
const undoneShown = 5

// undoneText describes to people what a restore has undone.
func undoneText(u *server.Undone) string {
	var said strings.Builder
	if u.Error != "" {
		return "\n" + u.Error + "."
	}
	until := u.Until.Format(time.RFC3339)
	if len(u.Count) == 0 {
		fmt.Fprintf(&said, "\nUp to %s nothing was ended or changed that is back now.", until)
	} else {
		fmt.Fprintf(&said, "\nWhat happened since, up to %s, has not happened here. "+
			"Run what you need before the server starts, which announces every account again:", until)
	}
	for _, t := range undoneTexts {
		n := u.Count[t.kind]
		if n == 0 {
			continue
		}
		fmt.Fprintf(&said, "\n- %d: %s", n, t.text)
		listed := 0
		for _, one := range u.List {
			if one.Kind != t.kind {
				continue
			}
			if listed++; listed <= undoneShown {
				said.WriteString("\n    " + undoneLine(one))
			}
		}
		switch shown := min(listed, undoneShown); {
		case n > listed:
			fmt.Fprintf(&said, "\n    and %d more: restored.json has the first %d", n-shown, listed)
		case n > shown:
			fmt.Fprintf(&said, "\n    and %d more: restored.json has them", n-shown)
		}
	}
	if u.Gap != "" {
		fmt.Fprintf(&said, "\nWhat was ended or changed after %s cannot be listed, because %s.", until, u.Gap)
	}
	return said.String()
}

func undoneLine(one store.Undone) string {
	parts := []string{}
	if one.DID != "" {
		parts = append(parts, strings.TrimSpace(one.Handle+" "+one.DID.String()))
	}
	if !one.At.IsZero() {
		parts = append(parts, one.At.Format(time.RFC3339))
	}
	if one.What != "" {
		parts = append(parts, one.What)
	}
	return strings.Join(parts, ", ")
}
