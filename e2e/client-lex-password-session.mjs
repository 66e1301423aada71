// @atproto/lex-password-session, as scenario.mjs wants a client.
import { PasswordSession } from '@atproto/lex-password-session'

export const signUp = async (service, account) => tab(await PasswordSession.createAccount(account, { service }))

export const signIn = async (service, identifier, password, options) =>
  tab(await PasswordSession.login({ service, identifier, password, ...options }))

export const resume = async (service, stored) => tab(await PasswordSession.resume({ ...stored, service }))

function tab(session) {
  const fetch = (path, init) => session.fetchHandler(path, init ?? {})
  return {
    stored: () => (session.destroyed ? null : session.session),
    refresh: () => session.refresh(),
    signOut: () => session.logout(),
    fetch,
    async getSession() {
      const answer = await fetch('/xrpc/com.atproto.server.getSession')
      return { status: answer.status, ...(await answer.json()) }
    },
  }
}
