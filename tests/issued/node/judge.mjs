// Two independent clients of the hub's OAuth server. A line of JSON in, a line of JSON out; secrets never in arguments.
import { createInterface } from 'node:readline'
import * as oauth from 'oauth4webapi'
import * as oidc from 'openid-client'

const plain = { [oauth.allowInsecureRequests]: true } // the test's server listens on loopback without TLS
let as, kept

const auth = (it) =>
  it.secret === undefined ? oauth.None() : it.post ? oauth.ClientSecretPost(it.secret) : oauth.ClientSecretBasic(it.secret)

async function config(it) {
  const method = it.secret === undefined ? oidc.None() : oidc.ClientSecretBasic(it.secret)
  return oidc.discovery(new URL(it.issuer), it.client_id, undefined, method, {
    algorithm: 'oauth2',
    execute: [oidc.allowInsecureRequests],
  })
}

const steps = {
  async discover(it) {
    const issuer = new URL(it.issuer)
    const answer = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...plain })
    as = await oauth.processDiscoveryResponse(issuer, answer)
    return as
  },
  async credentials(it) {
    const client = { client_id: it.client_id }
    const answer = await oauth.clientCredentialsGrantRequest(as, client, auth(it), new URLSearchParams(it.scope ? { scope: it.scope } : {}), plain)
    return oauth.processClientCredentialsResponse(as, client, answer)
  },
  async begin(it) {
    const verifier = oauth.generateRandomCodeVerifier()
    kept = { verifier, state: oauth.generateRandomState() }
    const url = new URL(as.authorization_endpoint)
    const challenge = await oauth.calculatePKCECodeChallenge(verifier)
    const asked = { client_id: it.client_id, redirect_uri: it.redirect_uri, response_type: 'code', scope: it.scope, code_challenge: challenge, code_challenge_method: 'S256', state: kept.state }
    for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value)
    return { url: url.href }
  },
  async finish(it) {
    const client = { client_id: it.client_id }
    const found = oauth.validateAuthResponse(as, client, new URL(it.callback), kept.state)
    const answer = await oauth.authorizationCodeGrantRequest(as, client, auth(it), found, it.redirect_uri, kept.verifier, plain)
    return oauth.processAuthorizationCodeResponse(as, client, answer)
  },
  async refresh(it) {
    const client = { client_id: it.client_id }
    const answer = await oauth.refreshTokenGrantRequest(as, client, auth(it), it.token, plain)
    return oauth.processRefreshTokenResponse(as, client, answer)
  },
  async introspect(it) {
    const client = { client_id: it.client_id }
    const answer = await oauth.introspectionRequest(as, client, auth(it), it.token, plain)
    return oauth.processIntrospectionResponse(as, client, answer)
  },
  async revoke(it) {
    const answer = await oauth.revocationRequest(as, { client_id: it.client_id }, auth(it), it.token, plain)
    await oauth.processRevocationResponse(answer)
    return {}
  },
  async oidc_credentials(it) {
    return oidc.clientCredentialsGrant(await config(it), it.scope ? { scope: it.scope } : {})
  },
  async oidc_begin(it) {
    const verifier = oidc.randomPKCECodeVerifier()
    kept = { verifier, state: oidc.randomState(), config: await config(it) }
    const url = oidc.buildAuthorizationUrl(kept.config, {
      redirect_uri: it.redirect_uri,
      scope: it.scope,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: kept.state,
    })
    return { url: url.href }
  },
  async oidc_finish(it) {
    const checks = { pkceCodeVerifier: kept.verifier, expectedState: kept.state }
    return oidc.authorizationCodeGrant(kept.config, new URL(it.callback), checks)
  },
  async oidc_refresh(it) {
    return oidc.refreshTokenGrant(kept.config, it.token)
  },
  async oidc_introspect(it) {
    return oidc.tokenIntrospection(await config(it), it.token)
  },
  async oidc_revoke(it) {
    await oidc.tokenRevocation(await config(it), it.token)
    return {}
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const it = JSON.parse(line)
  let said
  try {
    said = { ok: await steps[it.do](it) }
  } catch (error) {
    const cause = error.cause ?? {}
    said = { error: error.error ?? cause.error ?? error.code ?? error.name, status: error.status ?? cause.status ?? null }
  }
  process.stdout.write(JSON.stringify(said) + '\n')
}
