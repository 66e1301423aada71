// An app that drops its session because a refresh failed: the person signs in again, and the library signs out
// of the old session behind it.
// Usage: node faults-dropped.mjs, driven by faults_clients_test.go. SERVICE is the server, PLC its directory.
import { ask, finish, step } from './harness.mjs'
import { open } from './oauth-atproto.mjs'

const { SERVICE, PLC } = process.env

await step('drop', async () => {
  const app = await open({
    service: SERVICE, plc: PLC, scope: 'atproto transition:generic', redirect: 'http://127.0.0.1/callback', fetch: globalThis.fetch, publish: () => {},
  })
  const { handle } = await ask('account', 'alice')
  const signIn = async () => {
    const callback = await ask('allow', JSON.stringify({ url: await app.begin(), identifier: handle }))
    return app.finish(new URL(callback).searchParams)
  }
  const tab = await signIn()
  await tab.refresh().catch(() => {})
  await signIn()
})
finish()
