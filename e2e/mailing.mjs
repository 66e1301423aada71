// What an app does with the codes that come by mail, with @atproto/api. Driven
// by mail_test.go, which reads the mail.
import assert from 'node:assert/strict'
import { AtpAgent, ComAtprotoServerCreateSession as CreateSession, ComAtprotoServerUpdateEmail as UpdateEmail } from '@atproto/api'
import { ask, finish, step } from './harness.mjs'

const { SERVICE } = process.env
const password = 'correct-horse-battery'

async function signUp(name) {
  const agent = new AtpAgent({ service: SERVICE })
  await agent.createAccount({ handle: `${name}.test`, email: `${name}@example.com`, password })
  return agent
}

async function confirm(agent, email) {
  await agent.com.atproto.server.requestEmailConfirmation()
  await agent.com.atproto.server.confirmEmail({ email, token: await ask('code', email) })
}

const session = async (agent) => (await agent.com.atproto.server.getSession()).data
const login = (identifier, password, authFactorToken) => new AtpAgent({ service: SERVICE }).login({ identifier, password, authFactorToken })

await step('confirm the address', async () => {
  const agent = await signUp('alice')
  assert.equal((await session(agent)).emailConfirmed, false)
  await confirm(agent, 'alice@example.com')
  assert.equal((await session(agent)).emailConfirmed, true)
})

await step('change the address', async () => {
  const agent = await signUp('bob')
  await confirm(agent, 'bob@example.com')
  await assert.rejects(agent.com.atproto.server.updateEmail({ email: 'robert@example.com' }), UpdateEmail.TokenRequiredError)
  const { data } = await agent.com.atproto.server.requestEmailUpdate()
  assert.equal(data.tokenRequired, true)
  const token = await ask('code', 'bob@example.com')
  await agent.com.atproto.server.updateEmail({ email: 'robert@example.com', token: token.toLowerCase() })
  const now = await session(agent)
  assert.deepEqual([now.email, now.emailConfirmed], ['robert@example.com', false])
  assert.equal(await ask('subject', 'bob@example.com'), 'Your email address was changed')
})

await step('reset the password', async () => {
  const agent = await signUp('carol')
  await agent.com.atproto.server.requestPasswordReset({ email: 'carol@example.com' })
  const token = await ask('code', 'carol@example.com')
  await agent.com.atproto.server.resetPassword({ token, password: 'a new password' })
  await assert.rejects(login('carol.test', password), /Invalid identifier or password/)
  await login('carol.test', 'a new password')
  await assert.rejects(agent.com.atproto.server.getSession(), 'a session lives on after the reset')
})

await step('sign in with a code', async () => {
  const agent = await signUp('dave')
  await confirm(agent, 'dave@example.com')
  const app = (await agent.com.atproto.server.createAppPassword({ name: 'app' })).data.password
  await ask('subject', 'dave@example.com')
  await agent.com.atproto.server.updateEmail({ email: 'dave@example.com', emailAuthFactor: true })
  assert.equal(await ask('subject', 'dave@example.com'), 'Sign-in codes are on')
  assert.equal((await session(agent)).emailAuthFactor, true)
  await assert.rejects(login('dave.test', password), CreateSession.AuthFactorTokenRequiredError)
  const token = await ask('code', 'dave@example.com')
  await assert.rejects(login('dave.test', password, 'AAAAA-AAAAA'), /Token is invalid/)
  await login('dave.test', password, token)
  await login('dave.test', app)
  await agent.com.atproto.server.requestEmailUpdate()
  await agent.com.atproto.server.updateEmail({ email: 'dave@example.com', emailAuthFactor: false, token: await ask('code', 'dave@example.com') })
  await login('dave.test', password)
})

finish()
