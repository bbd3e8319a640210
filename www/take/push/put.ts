import { cancelled } from '../../engine/errors'
import { AGAIN, enter, hostOf, Trouble, unreachable, type Net } from '../../engine/fetching'

/**
 * Sends a file or a part of one, and tells how many bytes of it have left. The answer has no more than its status, ETag,
 * Retry-After and words.
 */
export type Put = (
  url: string,
  body: Blob,
  headers: Record<string, string>,
  net: Net,
  left: (bytes: number) => void,
) => Promise<Response>

/** By XMLHttpRequest, which reads the file from disk as it goes and says how far it is; `fetch` does not say. */
export const putFile: Put = async (url, body, headers, net, left) => {
  const stop = net.signal()
  const leave = await enter()
  const request = new XMLHttpRequest()
  const abort = () => request.abort()
  let timer: ReturnType<typeof setTimeout> | undefined
  try {
    return await new Promise<Response>((resolve, reject) => {
      if (stop?.aborted) return reject(cancelled())
      stop?.addEventListener('abort', abort)
      const moved = () => {
        clearTimeout(timer)
        timer = setTimeout(() => {
          reject(new Trouble(`${hostOf(url)} took nothing for ${net.patience.stallMs / 1000} s`, AGAIN))
          abort()
        }, net.patience.stallMs)
      }
      request.upload.onprogress = ({ loaded }) => {
        moved()
        left(loaded)
      }
      request.onload = () => resolve(answerOf(request))
      request.onerror = () => reject(unreachable(url, net))
      request.onabort = () => reject(cancelled())
      request.open('PUT', url)
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
      moved()
      request.send(body)
    })
  } finally {
    clearTimeout(timer)
    stop?.removeEventListener('abort', abort)
    leave()
  }
}

function answerOf(request: XMLHttpRequest): Response {
  const { status, responseText } = request
  const headers = new Headers()
  for (const name of ['ETag', 'Retry-After']) {
    // A name that the server does not expose is not asked for: the browser would complain in its console.
    const value = request.getAllResponseHeaders().toLowerCase().includes(`${name.toLowerCase()}:`)
      ? request.getResponseHeader(name)
      : null
    if (value !== null) headers.set(name, value)
  }
  return new Response(responseText || null, { status, headers })
}
