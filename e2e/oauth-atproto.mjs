// @atproto/oauth-client-node, as oauth.mjs wants a client: a loopback client, or a
// confidential one whose document the test serves.
import { buildAtprotoLoopbackClientMetadata, JoseKey, NodeOAuthClient } from '@atproto/oauth-client-node'

// keyset makes the key of a confidential client.
const keyset = async () => [await JoseKey.generate(['ES256'], 'key-1')]

const store = (map = new Map()) => ({
  map,
  get: async (key) => structuredClone(map.get(key)),
  set: async (key, value) => void map.set(key, structuredClone(value)),
  del: async (key) => void map.delete(key),
})

const noLock = async (name, run) => run() // workers that know nothing of each other

export async function open({ service, plc, scope, redirect, fetch, publish, clientID, requestLock = noLock }) {
  const keys = clientID ? await keyset() : undefined
  const clientMetadata = clientID
    ? {
        client_id: clientID,
        client_name: 'Test client',
        client_uri: new URL(clientID).origin,
        redirect_uris: [redirect],
        scope,
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        application_type: 'web',
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: 'ES256',
        dpop_bound_access_tokens: true,
        jwks: { keys: keys.map((key) => key.publicJwk) },
      }
    : buildAtprotoLoopbackClientMetadata({ scope, redirect_uris: [redirect] })
  if (clientID) await publish(clientMetadata)

  const states = store()
  const make = (sessions) =>
    new NodeOAuthClient({
      clientMetadata, keyset: keys, stateStore: states, sessionStore: sessions, requestLock,
      allowHttp: true, plcDirectoryUrl: plc, handleResolver: service, fetch,
    })
  const tab = (client, sessions, session) => ({
    did: session.did,
    stored: () => structuredClone(sessions.map.get(session.did)),
    tokens: () => sessions.map.get(session.did)?.tokenSet,
    refresh: () => client.restore(session.did, true),
    fetch: (path, init) => session.fetchHandler(path, init),
    signOut: () => session.signOut(),
  })
  const first = store()
  const client = make(first)
  return {
    begin: async () => (await client.authorize(service, { scope })).href,
    async finish(params) {
      const { session } = await client.callback(params)
      return tab(client, first, session)
    },
    // another is a tab that shares what is stored with the first.
    async another(did) {
      const client = make(first)
      return tab(client, first, await client.restore(did, false))
    },
    async resume(did, stored) {
      const sessions = store(new Map([[did, structuredClone(stored)]]))
      const client = make(sessions)
      return tab(client, sessions, await client.restore(did, false))
    },
  }
}
