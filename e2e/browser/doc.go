// Package browser looks at the pages of web in a real browser, headless Chromium driven
// by playwright-core: each sample of web/webtest by keyboard, with axe, narrow, dark, in
// the pseudo-language and without a script. It also signs in to an app on
// @atproto/oauth-client-browser, which needs a browser. It is a package of its own so that
// it runs beside the other end-to-end tests.
//
// NESTBOX_SCREENSHOTS names a folder that gets a picture of each sample, narrow and wide,
// light and dark: make screenshots. CHROMIUM names the browser, if it is not in the path.
package browser
