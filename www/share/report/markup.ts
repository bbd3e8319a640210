/** HTML from templates in which every value is text, unless it is HTML from such a template itself. */
export class Markup {
  constructor(readonly html: string) {}
}

type Value = string | number | null | Markup | readonly Markup[]

export function markup(parts: TemplateStringsArray, ...values: Value[]): Markup {
  return new Markup(parts.reduce((html, part, i) => html + htmlOf(values[i - 1] ?? '') + part))
}

const NAMES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function htmlOf(value: Value): string {
  if (value instanceof Markup) return value.html
  if (Array.isArray(value)) return (value as readonly Markup[]).map(each => each.html).join('')
  return String(value).replaceAll(/[&<>"']/g, letter => NAMES[letter]!)
}
