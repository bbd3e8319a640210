/** Hands a file made on this page to the user. */
export function saveBlob(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob)
  clickLink(url, name)
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

/** Hands out what `url` leads to. */
export function clickLink(url: string, name: string): void {
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
}
