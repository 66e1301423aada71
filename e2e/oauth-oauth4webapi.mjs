// oauth4webapi, as oauth.mjs wants a client: a loopback client. The library is strict and
// knows no atproto; what it leaves to its caller is here.
import * as oauth from 'oauth4webapi'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const importPair = async ({ publicKey, privateKey }) => ({
  publicKey: await crypto.subtle.importKey('jwk', publicKey, algorithm, true, ['verify']),
  privateKey: await crypto.subtle.importKey('jwk', privateKey, algorithm, false, ['sign']),
})

export async function open({ service, scope, redirect, fetch }) {
  const options = { [oauth.allowInsecureRequests]: true, [oauth.customFetch]: fetch }
  const issuer = new URL(service)
  const as = await oauth.processDiscoveryResponse(
    issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...options }),
  )
  const client = {
    client_id: `http://localhost?${new URLSearchParams({ scope, redirect_uri: redirect })}`, token_endpoint_auth_method: 'none',
  }
  const auth = oauth.None()
  // again makes a request that is repeated once if it lacked a nonce.
  const again = async (run) => {
    try {
      return await run()
    } catch (e) {
      if (!oauth.isDPoPNonceError(e)) throw e
      return await run()
    }
  }
  const pending = new Map()

  async function tab({ keys, tokens }) {
    const DPoP = oauth.DPoP(client, await importPair(keys))
    const set = (fresh) => Object.assign(tokens, fresh)
    return {
      did: tokens.sub,
      stored: () => structuredClone({ keys, tokens }),
      tokens: () => tokens,
      refresh: () =>
        again(async () => {
          const answer = await oauth.refreshTokenGrantRequest(as, client, auth, tokens.refresh_token, { DPoP, ...options })
          set(await oauth.processRefreshTokenResponse(as, client, answer))
        }),
      fetch: (path, { method = 'GET', headers, body } = {}) =>
        again(() =>
          oauth.protectedResourceRequest(
            tokens.access_token, method, new URL(path, service), new Headers(headers), body, { DPoP, ...options },
          ),
        ),
      signOut: () =>
        again(async () => {
          const answer = await oauth.revocationRequest(as, client, auth, tokens.refresh_token, options)
          await oauth.processRevocationResponse(answer)
        }),
    }
  }

  return {
    async begin() {
      const pair = await oauth.generateKeyPair('ES256', { extractable: true })
      const keys = {
        publicKey: await crypto.subtle.exportKey('jwk', pair.publicKey), privateKey: await crypto.subtle.exportKey('jwk', pair.privateKey),
      }
      const DPoP = oauth.DPoP(client, await importPair(keys))
      const verifier = oauth.generateRandomCodeVerifier()
      const state = oauth.generateRandomState()
      const parameters = {
        response_type: 'code', redirect_uri: redirect, scope, state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
      }
      const { request_uri } = await again(async () =>
        oauth.processPushedAuthorizationResponse(
          as, client, await oauth.pushedAuthorizationRequest(as, client, auth, parameters, { DPoP, ...options }),
        ),
      )
      pending.set(state, { keys, verifier })
      const url = new URL(as.authorization_endpoint)
      url.search = new URLSearchParams({ client_id: client.client_id, request_uri })
      return url.href
    },
    async finish(callback) {
      const state = callback.get('state')
      const { keys, verifier } = pending.get(state)
      const params = oauth.validateAuthResponse(as, client, callback, state)
      const DPoP = oauth.DPoP(client, await importPair(keys))
      const tokens = await again(async () =>
        oauth.processAuthorizationCodeResponse(
          as, client, await oauth.authorizationCodeGrantRequest(as, client, auth, params, redirect, verifier, { DPoP, ...options }),
        ),
      )
      return tab({ keys, tokens })
    },
    resume: (did, stored) => tab(structuredClone(stored)),
  }
}
