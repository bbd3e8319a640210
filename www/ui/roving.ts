/**
 * Makes a bar of buttons one stop of Tab: the arrow keys, Home and End go from button to button, and Tab comes back to
 * the one that had the focus last. Buttons that are switched off are passed over.
 */
export function roving(bar: HTMLElement): () => void {
  const buttons = () => [...bar.querySelectorAll<HTMLButtonElement>('button')]
  const usable = () => buttons().filter(button => !button.disabled && button.offsetParent !== null)
  let last: HTMLButtonElement | undefined

  function settle() {
    const able = usable()
    const stop = last && able.includes(last) ? last : able[0]
    for (const button of buttons()) {
      const tabIndex = button === stop ? 0 : -1
      // Writing what is there already would wake the observer again and again.
      if (button.tabIndex !== tabIndex) button.tabIndex = tabIndex
    }
  }

  function focused({ target }: FocusEvent) {
    if (target instanceof HTMLButtonElement) last = target
    settle()
  }

  function key(event: KeyboardEvent) {
    const able = usable()
    const at = able.indexOf(event.target as HTMLButtonElement)
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: able.length - 1 }[event.key]
    if (to === undefined || at < 0) return
    event.preventDefault()
    able[Math.min(able.length - 1, Math.max(0, to))]?.focus()
  }

  const observer = new MutationObserver(settle)
  observer.observe(bar, { subtree: true, childList: true, attributeFilter: ['disabled'] })
  bar.addEventListener('focusin', focused)
  bar.addEventListener('keydown', key)
  settle()
  return () => {
    observer.disconnect()
    bar.removeEventListener('focusin', focused)
    bar.removeEventListener('keydown', key)
  }
}
