import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nativeTarget } from '../../../scripts/paths.mjs'
import type { Comparison } from '../../../www/charts/speed'
import type { MergePlan, PlanReport } from '../../../www/engine/protocol/plan'
import type { Quality } from '../../../www/engine/protocol/quality'
import type { SimilarityReport } from '../../../www/engine/protocol/similarity'
import { perplexity } from '../../../www/ui/format'
import { readNpy } from '../../../www/figures/npy'
import { choosePublished, compress, ENGINE, findBrowser, openSite, runDemo, saved, visit, type Site } from './harness'

const program = join(nativeTarget, 'release', process.platform === 'win32' ? 'laminate.exe' : 'laminate')
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
  !existsSync(program) && 'the command line has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: exports against the command line, because ${missing.join(' and ')}`)

/** What the command line prints of the demo. */
function printed<T>(command: string, ...options: string[]): T {
  const out = execFileSync(program, [command, 'demo', '--device', 'cpu', '--json', ...options], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 2 ** 28,
  })
  return JSON.parse(out) as T
}

/** How a run went, which is its own. */
const OF_A_RUN = new Set(['device', 'seconds', 'peak_memory_bytes'])

/** Where two values differ by more than arithmetic in another order does, as paths; other kinds, lengths and names count too. */
function differences(page: unknown, line: unknown, at = ''): string[] {
  if (typeof page === 'number' && typeof line === 'number')
    return Math.abs(page - line) <= 2e-3 * Math.max(1, Math.abs(line)) ? [] : [`${at}: ${page} and ${line}`]
  if (typeof page !== 'object' || typeof line !== 'object' || !page || !line)
    return page === line ? [] : [`${at}: ${JSON.stringify(page)} and ${JSON.stringify(line)}`]
  const [ours, theirs] = [page, line] as [Record<string, unknown>, Record<string, unknown>]
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)].filter(name => !OF_A_RUN.has(name)))
  return [...names].flatMap(name => differences(ours[name], theirs[name], `${at}.${name}`))
}

/** A table as its lines of cells, quoted ones too; numbers as numbers. */
function cells(csv: string): (string | number)[][] {
  const lines: string[][] = [[]]
  for (const [, quoted, plain = '', end] of csv.trim().matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    lines.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain)
    if (end === '') break
    if (end !== ',') lines.push([])
  }
  return lines.map(line =>
    line.map(cell => (cell.trim() !== '' && Number.isFinite(Number(cell)) ? Number(cell) : cell)),
  )
}

/** The lines of a table by the names of their columns, of which `names` are kept. */
function records(csv: string, names: readonly string[]): Record<string, string | number | undefined>[] {
  const [head = [], ...lines] = cells(csv)
  return lines.map(line => Object.fromEntries(names.map(name => [name, line[head.indexOf(name)]])))
}

describe.skipIf(missing.length > 0)('what the page saves is what the command line prints', () => {
  let site: Site
  let page: Page
  const folder = mkdtempSync(join(tmpdir(), 'laminate-exports-'))
  const json = async <T>(what: string) => JSON.parse((await saved(page, what, 'JSON')).bytes.toString()) as T
  const csv = async (what: string) => cells((await saved(page, what, 'CSV')).bytes.toString())
  const npy = async (what: string) => {
    const { shape, data } = readNpy((await saved(page, what, 'NPY')).bytes, what)
    return { shape, data: [...data] }
  }

  beforeAll(async () => {
    site = await openSite('real')
    page = (await visit(site, '?device=cpu')).page
    await runDemo(page, 300_000)
  }, 400_000)
  afterAll(() => site?.close())

  test('similarities', async () => {
    const line = printed<SimilarityReport>('similarity')
    const report = await json<SimilarityReport>('the similarities')
    const { options, ...rest } = report
    const { options: asked, ...theirs } = line
    expect(differences(rest, theirs)).toEqual([])
    expect(options).toMatchObject({
      samples: asked.samples,
      tokens: asked.tokens,
      points: asked.points,
      metric: asked.metric,
    })
    const matrix = await csv('the similarities')
    const numbers = matrix
      .filter(row => row.filter(cell => typeof cell === 'number').length >= line.layers)
      .map(row => row.slice(-line.layers))
    expect(differences(numbers.slice(-line.layers), line.similarity)).toEqual([])
    expect(differences(await npy('the similarities'), { shape: [12, 12], data: line.similarity.flat() })).toEqual([])
    const beside = await csv('the similarities of neighbours')
    expect(
      differences(
        beside.slice(1).map(([layer, next, similarity]) => [layer, next, similarity]),
        Array.from({ length: 11 }, (_, l) => [l, l + 1, line.similarity[l]![l + 1]]),
      ),
    ).toEqual([])
  })

  test('the two maps that are shown', async () => {
    const line = printed<SimilarityReport>('similarity')
    const table = await csv('the two maps')
    const { shape, data } = await npy('the two maps')
    expect([shape, table.length]).toEqual([[2, 128, 2], 1 + 2 * 128])
    const layers = [table[1]![0], table.at(-1)![0]] as [number, number]
    const points = layers.flatMap(layer => line.embedding[layer]!)
    expect(differences(data, points.flat())).toEqual([])
    expect(
      differences(
        table.slice(1).map(row => row.slice(2, 4)),
        points,
      ),
    ).toEqual([])
  })

  test('a plan, its merges and what they cost', async () => {
    await choosePublished(page)
    await compress(page, 7, 300_000)
    const line = printed<{
      recipe: { plan: MergePlan }
      original: Quality
      merged: Quality
      dropped: Quality
      parameters: unknown
    }>('compress', '--method', 'mka', '--remove', '7', '--out', join(folder, 'smaller'))
    const { plan } = line.recipe
    expect(differences(await json('the merges'), plan)).toEqual([])
    const merges = (await csv('the merges')).slice(1)
    expect(
      differences(
        merges.map(row => [row[0], ...row.slice(3)]),
        plan.steps.map((step, i) => [i + 1, step.alpha, step.similarity, step.layers]),
      ),
    ).toEqual([])
    const report = await json<PlanReport>('the curves')
    expect(
      differences(
        {
          plan: report.plan,
          original: report.original,
          merged: report.merged,
          dropped: report.dropped,
          parameters: report.parameters,
        },
        { plan, original: line.original, merged: line.merged, dropped: line.dropped, parameters: line.parameters },
      ),
    ).toEqual([])
    const curve = await csv('the curves')
    const column = curve[0]!.findIndex(name => /perplexity/.test(String(name)))
    expect(
      differences(
        curve.slice(2).map(row => row[column]),
        plan.steps.map(step => step.perplexity),
      ),
    ).toEqual([])
  })

  test('a comparison of methods', async () => {
    const panel = page.locator('#compare')
    await panel.getByRole('button', { name: 'None' }).click()
    for (const name of ['MKA', 'ShortGPT', 'Prune&Comp'])
      await panel.getByRole('checkbox', { name, exact: true }).check()
    await page.getByLabel('Numbers of layers').fill('3, 5')
    await panel.getByRole('button', { name: /^Compare the methods/ }).click()
    await panel.getByRole('button', { name: 'Compare the methods again' }).waitFor({ timeout: 300_000 })
    const [table, list] = ['compare.csv', 'compare.md'].map(name => join(folder, name)) as [string, string]
    const line = printed<Comparison>(
      'compare',
      '--methods',
      'mka,shortgpt,prunecomp',
      '--remove',
      '3,5',
      '--eval-samples',
      '32',
      '--eval-tokens',
      '128',
      '--csv',
      table,
      '--markdown',
      list,
    )
    const report = await json<Comparison>('the comparison')
    const rows = (of: Comparison) =>
      of.rows.toSorted((a, b) => a.method.localeCompare(b.method) || a.removed - b.removed)
    expect(
      differences({ ...report, rows: rows(report), output: null }, { ...line, rows: rows(line), output: null }),
    ).toEqual([])
    const columns = [
      'method',
      'selection',
      'operator',
      'removed',
      'layers',
      'perplexity',
      'kl',
      'top1_agreement',
      'collapsed',
      'parameters',
      'bytes',
    ]
    const lines = (csv: string) =>
      records(csv, columns).toSorted(
        (a, b) => String(a.method).localeCompare(String(b.method)) || Number(a.removed) - Number(b.removed),
      )
    const ours = lines((await saved(page, 'the comparison', 'CSV')).bytes.toString())
    expect(ours).toHaveLength(7)
    expect(differences(ours, lines(readFileSync(table, 'utf8')))).toEqual([])
    // Both Markdown tables are for people, each in its own words, and of the same numbers.
    const markdown = (await saved(page, 'the comparison', 'Markdown')).bytes
      .toString()
      .split('\n')
      .filter(each => /^\|[^|]+\| *\d+ *\|/.test(each))
    const inWords = line.rows.map(({ removed, quality }) => `${removed} ${perplexity(quality!.perplexity)}`)
    expect(
      markdown
        .map(each => each.split('|').map(cell => cell.trim()))
        .map(row => `${row[2]} ${row[4]}`)
        .toSorted(),
    ).toEqual([`0 ${perplexity(line.original.perplexity)}`, ...inWords].toSorted())
    expect(readFileSync(list, 'utf8').match(/^\| (mka|shortgpt|prunecomp) /gm)).toHaveLength(6)
  }, 600_000)
})
