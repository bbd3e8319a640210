export type Theme = 'auto' | 'light' | 'dark'

const KEY = 'laminate-theme'

export function storedTheme(): Theme {
  try {
    const theme = localStorage.getItem(KEY)
    return theme === 'light' || theme === 'dark' ? theme : 'auto'
  } catch {
    return 'auto'
  }
}

/** The choice is a convenience: where storage is refused it lasts as long as the page. */
export function applyTheme(theme: Theme): void {
  const { dataset } = document.documentElement
  if (theme === 'auto') delete dataset.theme
  else dataset.theme = theme
  try {
    localStorage.setItem(KEY, theme)
  } catch {
    // Private windows may refuse.
  }
}
