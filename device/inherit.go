package device

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// The browsers of the server that this one took over from prove themselves by two cookies.
// Together they stand for a secret of ours, the first of its browser: it is followed by
// others as each is, and counts for nothing once the next one has come.

// The cookies of the reference (@atproto/oauth-provider, device-manager.ts): dev- and ses-,
// and 32 hexadecimal digits.
const (
	inheritedDevice  = "dev-"
	inheritedSession = "ses-"
	inheritedDigits  = 32
)

// inheritedKept is how long after a take-over the other server's cookies are known: no
// sign-in that they prove lives longer unused.
const inheritedKept = RememberLife

// inheritedSecret returns the secret that the other server's two cookies are here.
func inheritedSecret(dev, ses string) (s secret, ok bool) {
	if !isInherited(dev, inheritedDevice) || !isInherited(ses, inheritedSession) {
		return s, false
	}
	return sha256.Sum256([]byte("nestbox device of another server " + dev + " " + ses)), true
}

func isInherited(value, prefix string) bool {
	if len(value) != len(prefix)+inheritedDigits || value[:len(prefix)] != prefix {
		return false
	}
	for _, c := range []byte(value[len(prefix):]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// InheritedHash returns what a store knows of the other server's two cookies. It reports
// false if they are none.
func InheritedHash(dev, ses string) (hash [HashSize]byte, ok bool) {
	s, ok := inheritedSecret(dev, ses)
	return s.hash(), ok
}

// Inherited returns the value of our cookie that stands for two of the other server, "" if
// none does.
func (s *Service) Inherited(ctx context.Context, dev, ses string) (string, error) {
	sent, ok := inheritedSecret(dev, ses)
	if !ok {
		return "", nil
	}
	id, err := s.Store.Inherited(ctx, sent.hash())
	if errors.Is(err, ErrUnknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return formatCookie(id, sent), nil
}

// forgetInherited forgets the other server's cookies once what they prove has ended.
func (s *Service) forgetInherited(ctx context.Context, now time.Time) error {
	return s.Store.ForgetInherited(ctx, now.Add(-inheritedKept))
}
