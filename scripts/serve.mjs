// @ts-check
/**
 * Serves the built page from a folder, and nothing else but the sample model where it has been fetched. What the build has
 * compressed goes out compressed, and nothing is compressed here.
 */
import { createReadStream, readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize, sep } from 'node:path'
import { ISOLATING } from '../www/offline/isolation.js'
import { answerSample } from './sample.mjs'

/** @type {Record<string, string>} */
const types = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
}

/**
 * The file below `folder` that a request's path means, or null where it means none: outside of the folder,
 * a dot file, or not a path at all. @param {string} folder @param {string} url
 */
export function fileFor(folder, url) {
  try {
    const path = decodeURIComponent(new URL(url, 'http://page').pathname)
    if (path.includes('\0') || path.split(/[\\/]/).some(part => part.startsWith('.'))) return null
    const file = normalize(join(folder, path.endsWith('/') ? `${path}index.html` : path))
    return file.startsWith(normalize(folder + sep)) ? file : null
  } catch {
    return null
  }
}

/**
 * The file itself, or what the build made of it for browsers that take that. @param {string} file @param {string} accepted
 * @returns {Promise<{ path: string, info: import('node:fs').Stats, encoding: string } | null>}
 */
async function variantOf(file, accepted) {
  const taken = /** @type {const} */ ([
    ['br', '.br'],
    ['gzip', '.gz'],
    ['', ''],
  ]).filter(([name]) => name === '' || new RegExp(`\\b${name}\\b`).test(accepted))
  for (const [encoding, ending] of taken) {
    const info = await stat(file + ending).catch(() => null)
    if (info?.isFile()) return { path: file + ending, info, encoding }
  }
  return null
}

/** Names that carry a digest of their content may be kept for ever, others are asked about again. @param {string} url */
export const cacheControl = url =>
  /^\/assets\/.*-[\w-]{8,}\.\w+$/.test(url) ? 'public, max-age=31536000, immutable' : 'no-cache'

/**
 * The page's own policy again as a header, because a worker heeds only that; and what lets the page's threads share memory
 * from the first visit on. @param {string} folder
 */
function securityHeaders(folder) {
  const policy = /Content-Security-Policy"\s+content="([^"]+)"/.exec(
    readFileSync(join(folder, 'index.html'), 'utf8'),
  )?.[1]
  return {
    'Content-Security-Policy': `${policy ?? "default-src 'self'"}; frame-ancestors 'none'`,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    ...ISOLATING,
  }
}

/** A server for the folder, not yet listening. @param {string} folder */
export function pageServer(folder) {
  const security = securityHeaders(folder)
  return createServer(async (request, response) => {
    const { method = '', url = '/' } = request
    const end = (/** @type {number} */ status, /** @type {string} */ text, headers = {}) =>
      response.writeHead(status, { ...security, 'Content-Type': 'text/plain; charset=utf-8', ...headers }).end(text)
    if (method !== 'GET' && method !== 'HEAD') return end(405, 'Only GET and HEAD.', { Allow: 'GET, HEAD' })
    if (answerSample(request, response, security)) return
    const file = fileFor(folder, url)
    const found = file === null ? null : await variantOf(file, String(request.headers['accept-encoding'] ?? ''))
    if (file === null || found === null) return end(404, 'There is no such file.')
    const { path, info, encoding } = found
    const etag = `"${info.size.toString(36)}-${Math.trunc(info.mtimeMs).toString(36)}"`
    const headers = {
      ...security,
      'Cache-Control': cacheControl(url),
      ETag: etag,
      Vary: 'Accept-Encoding',
      ...(encoding ? { 'Content-Encoding': encoding } : {}),
    }
    if (request.headers['if-none-match'] === etag) return response.writeHead(304, headers).end()
    response.writeHead(200, {
      ...headers,
      'Content-Type': types[extname(file)] ?? 'application/octet-stream',
      'Content-Length': info.size,
    })
    if (method === 'HEAD') return response.end()
    createReadStream(path)
      .on('error', () => response.destroy())
      .pipe(response)
  })
}

/**
 * Starts to serve and gives the address. Port 0 takes any free one. @param {string} folder @param {number} port
 * @returns {Promise<{ address: string, close: () => void }>}
 */
export function serve(folder, port) {
  const server = pageServer(folder)
  return new Promise((resolve, reject) => {
    server.once('error', error => {
      const taken = 'code' in error && error.code === 'EADDRINUSE'
      reject(
        taken
          ? new Error(`Port ${port} is in use by another program. Choose another one: PORT=${port + 1} npm start`)
          : error,
      )
    })
    server.listen(port, 'localhost', () => {
      const bound = server.address()
      resolve({
        address: `http://localhost:${bound && typeof bound === 'object' ? bound.port : port}`,
        close: () => server.close(),
      })
    })
  })
}
