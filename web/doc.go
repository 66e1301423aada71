// Package web makes the pages that people see: sign-in and consent of OAuth, sign-up,
// reset, the account pages, and the admin page.
//
// A page is a struct of pages_*.go, filled by a handler and written by Pages.Render:
// its template, its texts in the person's language, and the security headers of its
// place. Templates, messages, style sheet and scripts are embedded; New refuses to
// start with a template that no page declares, a message that a language lacks, or an
// asset that is too large.
//
// Invariants: a page needs no script (but for passkeys and hCaptcha), no cookie and no
// foreign host; it holds no inline script or style. No text for people is in a
// template, a script or a handler: all of it is in messages/, by id. What strangers
// wrote (names of clients, user agents) is shown as text only, cut and without
// controls.
package web
