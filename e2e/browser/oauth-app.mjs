// The page of an app on @atproto/oauth-client-browser, a loopback client. oauth.mjs bundles
// and serves it, and calls window.app.
import { BrowserOAuthClient } from '@atproto/oauth-client-browser'

const { service, plc, scope } = JSON.parse(document.querySelector('#task').textContent)
const client = await BrowserOAuthClient.load({
  clientId: `http://localhost?${new URLSearchParams({ redirect_uri: `${location.origin}/`, scope })}`,
  handleResolver: service, plcDirectoryUrl: plc, allowHttp: true,
})
let session

window.app = {
  // open returns the DID that is signed in, whether the page is a callback or not.
  open: async () => {
    session = (await client.init())?.session
    return session?.did
  },
  signIn: () => void client.signInRedirect(service, { scope }),
  scope: async () => (await session.getTokenInfo(false)).scope,
  call: async (nsid, input) => {
    const answer = await session.fetchHandler(`/xrpc/${nsid}`, input && {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(input),
    })
    return { status: answer.status, body: await answer.json() }
  },
  signOut: () => session.signOut(),
}
