// A PostgreSQL of our own: a new cluster in a folder of the caller's, on loopback only.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { createConnection } from 'node:net'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const debian = '/usr/lib/postgresql' // a folder for each major version, which PATH does not name

// programs returns the folder of PostgreSQL's programs.
function programs() {
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => b - a) : []
  const folders = [process.env.PGBIN, ...process.env.PATH.split(delimiter), ...versions.map((v) => join(debian, v, 'bin'))]
  const found = folders.find((f) => f && existsSync(join(f, 'initdb')) && existsSync(join(f, 'postgres')))
  if (!found) throw new Error('PostgreSQL is missing: install it (Debian: postgresql), or set PGBIN to the folder of initdb and postgres')
  return found
}

// unprivileged returns how a program runs as somebody else than root, whom PostgreSQL refuses.
function unprivileged() {
  if (process.getuid() !== 0) return {}
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres']))
  return { uid: id('-u'), gid: id('-g') }
}

async function listens(port) {
  const socket = createConnection(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

// startPostgres returns the cluster's URL, and what ends it. folder is made.
export async function startPostgres(folder, port) {
  const bin = programs()
  const as = unprivileged()
  mkdirSync(folder)
  if (as.uid) chownSync(folder, as.uid, as.gid)
  const options = { ...as, cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] }
  const data = join(folder, 'data')
  execFileSync(join(bin, 'initdb'), ['-D', data, '-U', 'nestbox', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], options)
  // Nothing of it outlives the test, so nothing need reach the disk.
  const set = {
    listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: 150, log_min_messages: 'fatal',
    fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off',
  }
  const flags = Object.entries(set).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = spawn(join(bin, 'postgres'), ['-D', data, '-p', String(port), ...flags], options)
  while (!(await listens(port))) {
    if (server.exitCode !== null) throw new Error(`PostgreSQL ended with status ${server.exitCode}`)
    await sleep(50)
  }
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exit = once(server, 'exit')
    server.kill('SIGINT') // ends connections, too
    await exit
  }
  return { url: `postgresql://nestbox@127.0.0.1:${port}/postgres`, stop }
}
