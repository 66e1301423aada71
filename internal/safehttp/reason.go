package safehttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// TimedOut reports whether a request, or the look-up of its name, failed for lack of time.
func TimedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && t.Timeout()
}

// Reason returns why a request, or the look-up of its name, failed, for the stranger that
// named the host: one of a closed set of texts, none of which has an address or anything
// else that only this machine knows. It is empty if the network did not fail. The error
// itself is for the log.
func Reason(err error) string {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	tlsReason := reasonOfTLS(err)
	_, isURL := errors.AsType[*url.Error](err)
	_, isOp := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errURL):
		return "its URL is not allowed: https alone, on its usual port"
	case errors.Is(err, ErrForbidden):
		return "address not public"
	case errors.Is(err, ErrTooLarge):
		return ErrTooLarge.Error()
	case isDNS && dns.IsNotFound:
		return "name does not resolve"
	case TimedOut(err):
		return "timed out"
	case isDNS:
		return "name does not resolve: its name servers fail"
	case tlsReason != "":
		return "TLS: " + tlsReason
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection failed: it was refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "connection failed: the host cannot be reached"
	case closed(err):
		return "connection failed: the host closed it"
	case isURL, isOp:
		return "connection failed"
	default:
		return ""
	}
}

// closed reports whether the other side ended the connection, before or after it had the
// request.
func closed(err error) bool {
	for _, known := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return true
		}
	}
	return err != nil && strings.Contains(err.Error(), "server closed idle connection") // net/http has no type for it
}

// reasonOfTLS is Reason for what TLS refuses, or empty.
func reasonOfTLS(err error) string {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case unknown:
		return "the certificate's authority is unknown, or the chain is not complete"
	case name:
		return "the certificate is for another name"
	case isInvalid && invalid.Reason == x509.Expired:
		return "the certificate has expired, or is not valid yet"
	case isInvalid, isCertificate:
		return "the certificate is not valid"
	case plain, err != nil && strings.Contains(err.Error(), "HTTP response to HTTPS client"): // net/http has no type for it
		return "the host does not speak it"
	case err != nil && strings.Contains(err.Error(), "tls: "): // nor crypto/tls for most
		return "the handshake failed"
	default:
		return ""
	}
}
