// @atcute/client with @atcute/password-session, as scenario.mjs wants a client.
import { Client, ok, simpleFetchHandler } from '@atcute/client'
import { PasswordSession } from '@atcute/password-session'

// The package has no sign-up of its own: an app calls it and keeps the answer.
export async function signUp(service, account) {
  const rpc = new Client({ handler: simpleFetchHandler({ service }) })
  const made = await ok(rpc.post('com.atproto.server.createAccount', { input: account }))
  return tab(new PasswordSession({ ...made, service, active: true }))
}

export const signIn = async (service, identifier, password, options) =>
  tab(await PasswordSession.login({ service, identifier, password, ...options }))

// Resuming refreshes only near the token's end; the scenario wants it at once.
export async function resume(service, stored) {
  const session = await PasswordSession.resume({ ...stored, service })
  await session.refresh()
  return tab(session)
}

function tab(session) {
  const rpc = new Client({ handler: session })
  return {
    stored: () => (session.destroyed ? null : session.session),
    refresh: () => session.refresh(),
    signOut: () => session.logout(),
    fetch: (path, init) => session.handle(path, init ?? {}),
    async getSession() {
      const { status, data } = await rpc.get('com.atproto.server.getSession')
      return { status, ...data }
    },
  }
}
