// Runs one server of the reference, on loopback only, until SIGTERM:
//   node start.mjs plc PORT    a PLC directory in memory
//   node start.mjs pds         the PDS, configured by PDS_* variables
// Each is a process of its own, so that CPU and memory are the PDS's alone.
const [what, port] = process.argv.slice(2)

const make = {
  async plc() {
    const { Database, PlcServer } = (await import('@did-plc/server')).default
    return PlcServer.create({ db: Database.mock(), port: Number(port) })
  },
  async pds() {
    const { PDS, envToCfg, envToSecrets, readEnv } = await import('@atproto/pds')
    const env = readEnv()
    return PDS.create(envToCfg(env), envToSecrets(env))
  },
}

const server = await make[what]()
// Both listen on every interface, and neither has a setting for it.
const listen = server.app.listen.bind(server.app)
server.app.listen = (port) => listen(port, '127.0.0.1')
await server.start()
process.on('SIGTERM', () => server.destroy().finally(() => process.exit(0)))
