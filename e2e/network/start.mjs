// The rest of the network around a PDS, on loopback: the AppView with its data plane and bsync, a moderation
// service, a feed generator. PLC names the directory. Prints READY {…} with where all of it is, and ends with
// its standard input.
//
// CONTROL takes POST /follow?pds=URL (the AppView reads the events of one more PDS), /leave?pds=URL, /pause and
// /resume (it reads none, then all of them again), /feed with a JSON list of posts' URIs, /moderator?did=DID; GET
// /feed is what the last caller of the feed generator sent.
import './version.mjs'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer, get } from 'node:http'
import { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import * as bsky from '@atproto/bsky'
import * as bsync from '@atproto/bsync'
import { Secp256k1Keypair } from '@atproto/crypto'
import * as ozone from '@atproto/ozone'
import * as plc from '@did-plc/lib'
import { startFeed } from './feed.mjs'
import { startPostgres } from './postgres.mjs'

const { PLC } = process.env
const loopback = '127.0.0.1'
const adminPassword = 'admin'

// The packages listen on every interface, and have no setting for it.
const { listen } = Server.prototype
Server.prototype.listen = function (at, ...rest) {
  const ready = rest.filter((argument) => typeof argument === 'function')
  return listen.call(this, { port: Number(at?.port ?? at), host: loopback }, ...ready)
}

const stops = []
let stopping
const stop = (status) =>
  (stopping ??= (async () => {
    for (const end of stops.reverse()) await end().catch((e) => console.error(e))
    process.exit(status)
  })())
// A service that ends waits for its work: not for long, here.
const ends = (service, end = 'destroy') => stops.push(() => Promise.race([service[end](), sleep(2000)]))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stop(0))
process.stdin.resume().on('end', () => stop(0))
// A PDS that is not there any more fails the AppView's subscription: that is no reason to end.
process.on('unhandledRejection', (e) => console.error(e))

async function freePort() {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

// register makes a DID of a service.
async function register(key, verificationMethods, services) {
  const operation = await plc.signOperation(
    { type: 'plc_operation', alsoKnownAs: [], rotationKeys: [key.did()], verificationMethods, services, prev: null },
    key,
  )
  const did = await plc.didForCreateOp(operation)
  await new plc.Client(PLC).sendOperation(did, operation)
  return did
}

const appViewEntries = (endpoint) => ({
  bsky_appview: { type: 'BskyAppView', endpoint },
  bsky_notif: { type: 'BskyNotificationService', endpoint },
})

async function migrate(Database, url, schema) {
  const db = new Database({ url, schema })
  await db.migrateToLatestOrThrow()
  await db.close()
}

// startBsync starts what the AppView keeps mutes, bookmarks and the like in. It cannot tell this data plane, which
// speaks no HTTP/2, that notifications were seen: they stay unread.
async function startBsync(url) {
  const port = await freePort()
  const settings = { port, apiKeys: ['bsync'], dbUrl: url, dbSchema: 'bsync', dbPoolSize: 5 }
  const service = await bsync.BsyncService.create(bsync.envToCfg(settings))
  await service.ctx.db.migrateToLatestOrThrow()
  await service.start()
  ends(service)
  return `http://localhost:${port}`
}

// handles asks the servers that are followed: no DNS knows the names here.
function handles(followed) {
  const ask = (pds, handle) =>
    new Promise((resolve) => {
      get({ host: loopback, port: pds.port, path: '/.well-known/atproto-did', headers: { host: handle } }, async (answer) => {
        const did = (await text(answer)).trim()
        resolve(answer.statusCode === 200 ? did : undefined)
      }).on('error', () => resolve(undefined))
    })
  return async (handle) => {
    for (const pds of followed.keys()) {
      const did = await ask(new URL(pds), handle)
      if (did) return did
    }
  }
}

// startAppView starts the AppView, which goes by two DIDs: people name the one or the other.
async function startAppView(url, labeler, blobCacheLocation) {
  const port = await freePort()
  const endpoint = `http://localhost:${port}`
  const key = await Secp256k1Keypair.create()
  const entries = appViewEntries(endpoint)
  const serverDid = await register(key, { atproto: key.did() }, entries)
  const another = await register(key, { atproto: key.did() }, { ...entries, another: { type: 'Another', endpoint } })
  await migrate(bsky.Database, url, 'appview')
  const db = new bsky.Database({ url, schema: 'appview', poolSize: 10 })
  ends(db, 'close')
  const dataPort = await freePort()
  const dataplane = await bsky.DataPlaneServer.create(db, dataPort, PLC, fetch)
  ends(dataplane)
  const none = new Set()
  const config = new bsky.ServerConfig({
    version: 'test', port, publicUrl: endpoint, serverDid, alternateAudienceDids: [another], didPlcUrl: PLC,
    dataplaneUrls: [`http://localhost:${dataPort}`], dataplaneHttpVersion: '1.1',
    blobCacheLocation, bsyncUrl: await startBsync(url), bsyncApiKey: 'bsync', bsyncHttpVersion: '1.1',
    modServiceDid: labeler, labelsFromIssuerDids: [labeler], adminPasswords: [adminPassword], etcdHosts: [],
    disableSsrfProtection: true, feedGenSkeletonTimeout: 5000, draftsLimit: 100, maxThreadParents: 50,
    bigThreadUris: none, searchTagsHide: none, searchTagsHideAll: none, threadTagsBumpDown: none, threadTagsHide: none,
    debugFieldAllowedDids: none, visibilityTagHide: '', visibilityTagRankPrefix: '',
  })
  const server = bsky.BskyAppView.create({ config, signingKey: key })
  await server.start()
  ends(server)
  const mutes = new bsky.BsyncSubscription({ config, db })
  mutes.start()
  ends(mutes)

  const followed = new Map() // subscriptions by the URLs of their PDSes
  for (const { idResolver } of [server.ctx, dataplane]) idResolver.handle.resolve = handles(followed)
  const follow = (pds) => {
    const subscription = new bsky.RepoSubscription({ service: pds.replace(/^http/, 'ws'), db, idResolver: dataplane.idResolver })
    followed.set(pds, subscription)
    ends(subscription)
    return subscription.start()
  }
  const leave = (pds) => {
    const subscription = followed.get(pds)
    followed.delete(pds)
    return subscription.stop()
  }
  const all = (what) => Promise.all([...followed.values()].map((s) => s[what]()))
  return { url: endpoint, did: serverDid, another, follow, leave, pause: () => all('stop'), resume: () => all('start') }
}

// startOzone starts the moderation service whose key, DID and port are given: the AppView must know its DID first.
async function startOzone(url, { key, did, port }, appView) {
  await migrate(ozone.Database, url, 'ozone')
  const settings = {
    devMode: true, version: 'test', port, publicUrl: `http://localhost:${port}`, serverDid: did, didPlcUrl: PLC,
    signingKeyHex: Buffer.from(await key.export()).toString('hex'), adminPassword,
    dbPostgresUrl: url, dbPostgresSchema: 'ozone', appviewUrl: appView.url, appviewDid: appView.did, appviewPushEvents: false,
    adminDids: [], moderatorDids: [], triageDids: [],
  }
  const config = ozone.envToCfg(settings)
  const server = await ozone.OzoneService.create(config, ozone.envToSecrets(settings), {})
  await server.start()
  ends(server)
  return {
    addModerator: async (did) => {
      const { ctx } = server
      await ctx.teamService(ctx.db).create({
        did, disabled: false, handle: null, displayName: null, lastUpdatedBy: config.service.did, role: 'tools.ozone.team.defs#roleAdmin',
      })
    },
  }
}

function startControl(port, appView, moderation, feed) {
  const actions = {
    'POST /follow': ({ query }) => appView.follow(query.get('pds')),
    'POST /leave': ({ query }) => appView.leave(query.get('pds')),
    'POST /pause': () => appView.pause(),
    'POST /resume': () => appView.resume(),
    'POST /moderator': ({ query }) => moderation.addModerator(query.get('did')),
    'POST /feed': ({ body }) => { feed.posts = JSON.parse(body) },
    'GET /feed': () => feed.last,
  }
  createServer(async (request, response) => {
    try {
      const { pathname, searchParams } = new URL(request.url, 'http://localhost')
      const result = await actions[`${request.method} ${pathname}`]({ query: searchParams, body: await text(request) })
      response.end(JSON.stringify(result ?? null))
    } catch (e) {
      response.writeHead(500).end(String(e?.stack ?? e))
    }
  }).listen(port)
}

async function start() {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-network-'))
  stops.push(() => rm(folder, { recursive: true }))
  await chmod(folder, 0o755) // PostgreSQL may run as another user
  const postgres = await startPostgres(join(folder, 'postgres'), await freePort())
  stops.push(() => postgres.stop())

  const mod = { key: await Secp256k1Keypair.create({ exportable: true }), port: await freePort() }
  const labeler = { type: 'AtprotoLabeler', endpoint: `http://localhost:${mod.port}` }
  mod.did = await register(mod.key, { atproto: mod.key.did(), atproto_label: mod.key.did() }, { atproto_labeler: labeler })
  const closed = await register(mod.key, { atproto: mod.key.did() }, {
    ...appViewEntries(`http://localhost:${await freePort()}`), bsky_chat: { type: 'BskyChatService', endpoint: 'https://chat.invalid' },
  })

  const appView = await startAppView(postgres.url, mod.did, join(folder, 'pictures'))
  const moderation = await startOzone(postgres.url, mod, appView)
  const feed = startFeed(await freePort())
  const control = await freePort()
  startControl(control, appView, moderation, feed)
  const at = {
    appView: appView.url, appViewDID: appView.did, anotherDID: appView.another, closedDID: closed,
    moderation: labeler.endpoint, moderationDID: mod.did, feedDID: feed.did, control: `http://${loopback}:${control}`,
  }
  console.log(`READY ${JSON.stringify(at)}`)
}

start().catch((e) => {
  console.error(e)
  stop(1)
})
