// Signing up writes the account into a PLC directory: what is there is checked
// with the directory's own library. Driven by clients_directory_test.go.
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import * as plc from '@did-plc/lib'
import { finish, step } from './harness.mjs'

const { SERVICE, PDS, PLC, RECOVERY_KEY } = process.env
const directory = new plc.Client(PLC)

async function signUp(name, more) {
  const agent = new AtpAgent({ service: SERVICE })
  await agent.createAccount({ handle: `${name}.test`, email: `${name}@example.com`, password: 'correct-horse-battery', ...more })
  return agent
}

await step('document', async () => {
  const { session } = await signUp('alice')
  const doc = await directory.getDocument(session.did)
  assert.equal(doc.id, session.did)
  assert.deepEqual(doc.alsoKnownAs, ['at://alice.test'])
  assert.deepEqual(doc.service, [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: PDS }])
  const [key] = doc.verificationMethod
  assert.equal(key.id.slice(key.id.indexOf('#')), '#atproto')
  const answer = await fetch(`${SERVICE}/xrpc/com.atproto.identity.resolveHandle?handle=alice.test`)
  assert.deepEqual(await answer.json(), { did: session.did })
})

await step('operation log', async () => {
  const { session } = await signUp('bob')
  const log = await directory.getOperationLog(session.did)
  assert.equal(log.length, 1)
  const data = await plc.validateOperationLog(session.did, log)
  assert.deepEqual(data, { did: session.did, ...(await directory.getDocumentData(session.did)) })
  assert.equal(data.rotationKeys.length, 1)
  log[0].alsoKnownAs = ['at://mallory.test']
  await assert.rejects(plc.validateOperationLog(session.did, log))
})

await step('recovery key', async () => {
  const { session } = await signUp('carol', { recoveryKey: RECOVERY_KEY })
  const { rotationKeys } = await directory.getDocumentData(session.did)
  assert.equal(rotationKeys.length, 2)
  assert.equal(rotationKeys[0], RECOVERY_KEY)
})

finish()
