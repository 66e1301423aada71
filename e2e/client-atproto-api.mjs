// @atproto/api's AtpAgent, as scenario.mjs wants a client.
import { AtpAgent } from '@atproto/api'

export const signUp = (service, account) => open(service, (agent) => agent.createAccount(account))

export const signIn = (service, identifier, password, options) =>
  open(service, (agent) => agent.login({ identifier, password, ...options }))

export const resume = (service, stored) => open(service, (agent) => agent.resumeSession(stored))

async function open(service, start) {
  const agent = new AtpAgent({ service })
  await start(agent)
  return {
    stored: () => agent.session ?? null,
    refresh: () => agent.sessionManager.refreshSession(),
    signOut: () => agent.logout(),
    fetch: (path, init) => agent.sessionManager.fetchHandler(path, init),
    // Checks the answer against the Lexicon.
    getSession: () =>
      agent.com.atproto.server.getSession().then(
        ({ data }) => ({ status: 200, ...data }),
        ({ status, error }) => ({ status, error }),
      ),
  }
}
