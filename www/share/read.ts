/** Files that hold a result, told apart by what is in them and not by their names. */
import { Failure } from '../engine/errors'
import { MOST, similarities } from './checks/check'
import { isMatrixCsv, readMatrixCsv } from '../figures/csv'
import { isResultLink, readLink } from './link'
import { isNpy, readNpy } from '../figures/npy'
import { REPORT_DATA } from './report/data'
import { ofComparison, ofDocument, ofMatrix, ofPlan, ofRecipe, ofSimilarity, type Result } from './result'

/** Larger than the result of 128 layers with 512 points each; a model is larger still, and is not read here. */
const MOST_BYTES = 64_000_000
const HEAD = 4096

type Kind = 'npy' | 'csv' | 'report' | 'json' | 'link'

/** What a file is by its first bytes; null for a model or anything else. */
function kindOf(head: Uint8Array): Kind | null {
  if (isNpy(head)) return 'npy'
  const start = new TextDecoder().decode(head).replace(/^\uFEFF/, '')
  if (isMatrixCsv(start)) return 'csv'
  if (/^\s*<!doctype html/i.test(start)) return 'report'
  if (/^\s*\{/.test(start)) return 'json'
  return isResultLink(start) && /^\s*\S+\s*$/.test(start.slice(0, HEAD - 1)) ? 'link' : null
}

/**
 * The result in a file, or null where the file is not of Laminate's making: then it may be a part of a model.
 * One that is, and is wrong, is refused with one sentence.
 */
export async function readResult(file: Blob, name: string): Promise<Result | null> {
  const kind = kindOf(new Uint8Array(await file.slice(0, HEAD).arrayBuffer()))
  if (kind === null) return null
  if (file.size > MOST_BYTES) {
    if (kind === 'json') return null
    throw new Failure(
      'limit',
      `${name} has ${Math.round(file.size / 1e6)} MB, and results of up to ${MOST_BYTES / 1e6} MB are read. It was not made by Laminate.`,
    )
  }
  if (kind === 'npy') return ofMatrix(ofArray(new Uint8Array(await file.arrayBuffer()), name), name)
  const text = await file.text()
  if (kind === 'csv') return ofMatrix(checked(readMatrixCsv(text, name), name), name)
  if (kind === 'link') return readLink(text)
  return kind === 'report' ? ofReport(text, name) : ofJson(text, name)
}

function ofArray(bytes: Uint8Array, name: string): number[][] {
  const { shape, data } = readNpy(bytes, name)
  const [n = 0, columns] = shape
  if (shape.length !== 2 || n !== columns || n === 0) {
    throw new Failure(
      'format',
      `${name} holds an array of the shape (${shape.join(', ')}), and a similarity matrix has as many rows as columns. Choose the one that was saved from the heatmap.`,
    )
  }
  if (n > MOST.layers) throw new Failure('limit', `${name} is of ${n} layers, and at most ${MOST.layers} are shown.`)
  return checked(
    Array.from({ length: n }, (_, row) => [...data.subarray(row * n, (row + 1) * n)]),
    name,
  )
}

/** Of an unknown metric, so that cosines pass. */
function checked(rows: number[][], name: string): number[][] {
  return similarities(rows, [name, 'similarity'])
}

function ofReport(html: string, name: string): Result {
  const start = html.indexOf(REPORT_DATA)
  if (start < 0)
    throw new Failure(
      'format',
      `${name} is a web page and not a report of Laminate. Choose a report that was saved here.`,
    )
  const from = start + REPORT_DATA.length
  const end = html.indexOf('</script>', from)
  return ofDocument(parse(html.slice(from, end < 0 ? undefined : end), name), name)
}

function ofJson(text: string, name: string): Result | null {
  if (!/"(similarity|plan|rows|recipe)"/.test(text)) return null
  const found = parse(text, name)
  const has = (...keys: string[]) => keys.every(key => key in found)
  if (has('laminate', 'form')) return ofDocument(found, name)
  if (has('laminate', 'plan')) return ofRecipe(found, name)
  if (has('recipe', 'steps', 'original')) return ofCompression(found, name)
  if (has('similarity', 'layers')) return ofSimilarity(found, name)
  if (has('plan', 'original', 'merged')) return ofPlan(found, name)
  if (has('rows', 'evaluation')) return ofComparison(found, name)
  return null
}

/** What `laminate compress --json` prints: the recipe, and what the engine measured. */
function ofCompression(found: Record<string, unknown>, name: string): Result {
  const bare = ofRecipe(found.recipe, name)
  const layers = { before: bare.model.layers, after: bare.plan?.plan.groups.length }
  const { plan, output, imatrix } = found.recipe as Record<string, unknown>
  return { ...ofPlan({ ...found, plan, output, imatrix, layers }, name), model: bare.model, options: bare.options }
}

function parse(json: string, name: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw new Failure('format', `${name} is damaged: what it holds is not valid JSON. Save it again, or get it again.`)
}
