package account

import (
	_ "embed"
	"errors"
	"slices"
	"strings"
)

// commonPasswords are those of the 10,000 most used that are long enough to be set, in
// lower case, sorted: from zxcvbn 4.4.2 (Copyright (c) 2012-2016 Dan Wheeler and Dropbox,
// Inc., MIT license), which has them from leaks.
//
//go:embed common_passwords.txt
var commonPasswords string

// Errors of CheckChosenPassword.
var (
	// ErrPasswordCommon: it is among the most used, which are tried first.
	ErrPasswordCommon = errors.New("password is among the most used")
	// ErrPasswordName: it is the account's handle or address.
	ErrPasswordName = errors.New("password is the handle or the e-mail address")
)

// CheckChosenPassword is CheckNewPassword for one that a person chooses on a page. A handle
// or an address that is not known is empty.
func CheckChosenPassword(password, handle, email string) error {
	if err := CheckNewPassword(password); err != nil {
		return err
	}
	lower := strings.ToLower(strings.TrimSpace(password))
	name, _, _ := strings.Cut(strings.ToLower(handle), ".")
	user, _, _ := strings.Cut(strings.ToLower(email), "@")
	for _, known := range []string{strings.ToLower(handle), name, strings.ToLower(email), user} {
		if known != "" && lower == known {
			return ErrPasswordName
		}
	}
	if isCommon(lower) {
		return ErrPasswordCommon
	}
	return nil
}

func isCommon(lower string) bool {
	_, found := slices.BinarySearch(strings.Fields(commonPasswords), lower)
	return found
}
