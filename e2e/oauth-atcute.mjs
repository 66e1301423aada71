// @atcute/oauth-node-client, as oauth.mjs wants a client: a loopback client. Its confidential
// ones need a host outside of this machine.
import { OAuthClient } from '@atcute/oauth-node-client'
import {
  CompositeDidDocumentResolver, LocalActorResolver, PlcDidDocumentResolver, XrpcHandleResolver,
} from '@atcute/identity-resolver'

const store = (map = new Map()) => ({
  map,
  get: (key) => structuredClone(map.get(key)),
  set: (key, value) => void map.set(key, structuredClone(value)),
  delete: (key) => void map.delete(key),
  clear: () => map.clear(),
})

export async function open({ service, plc, scope, redirect, fetch }) {
  const actorResolver = new LocalActorResolver({
    handleResolver: new XrpcHandleResolver({ serviceUrl: service }),
    didDocumentResolver: new CompositeDidDocumentResolver({ methods: { plc: new PlcDidDocumentResolver({ apiUrl: plc }) } }),
  })
  const states = store()
  const make = (sessions) =>
    new OAuthClient({
      metadata: { redirect_uris: [redirect], scope }, actorResolver, stores: { sessions, states },
      requestLock: async (name, run) => run(), fetch,
    })
  const tab = (client, sessions, session) => ({
    did: session.did,
    stored: () => structuredClone(sessions.map.get(session.did)),
    tokens: () => sessions.map.get(session.did)?.tokenSet,
    refresh: () => client.restore(session.did, { refresh: true }),
    fetch: (path, init) => session.handle(path, init),
    signOut: () => session.signOut(),
  })
  const first = store()
  const client = make(first)
  return {
    begin: async () => (await client.authorize({ target: { type: 'pds', serviceUrl: service }, scope })).url.href,
    async finish(params) {
      const { session } = await client.callback(params)
      return tab(client, first, session)
    },
    async resume(did, stored) {
      const sessions = store(new Map([[did, structuredClone(stored)]]))
      const client = make(sessions)
      return tab(client, sessions, await client.restore(did, { refresh: false }))
    },
  }
}
