// What `laminate compress` writes as GGUF is loaded by llama.cpp, which gives the text the likelihood that we
// report and goes on from a prompt.
//
// Run by `npm test`; `LAMINATE` names the binary, `LLAMA` node-llama-cpp.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'

const { getLlama, LlamaLogLevel } = await import(pathToFileURL(process.env.LLAMA).href)

const root = join(import.meta.dirname, '../..')
const models = join(root, 'tests/data/models')
const text = readFileSync(join(root, 'src/demo/text.txt'), 'utf8')
const [SEQUENCES, TOKENS] = [4, 48]

/** Enough points to choose merges by, where it does not matter which. */
const QUICK = ['--samples', 20, '--method', 'mka']

let folder, llama
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'laminate-llama-'))
  llama = await getLlama({ build: 'never', gpu: false, logLevel: LlamaLogLevel.error })
})
after(async () => {
  await llama.dispose()
  rmSync(folder, { recursive: true, force: true })
})

const laminate = (...args) =>
  JSON.parse(
    execFileSync(process.env.LAMINATE, [...args, '--json', '--device', 'cpu'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 26,
    }),
  )

/** Perplexity of the sequences that the command line cuts, and how a story goes on, by llama.cpp. */
async function byLlama(modelPath) {
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
  const context = await model.createContext({ contextSize: 128, batchSize: 64, threads: 1 })
  const sequence = context.getSequence()
  const ids = model.tokenize(text, false)
  let [nll, n] = [0, 0]
  for (let i = 0; i < SEQUENCES; i++) {
    await sequence.clearHistory()
    const tokens = [model.tokens.bos, ...ids.slice(i * (TOKENS - 1), (i + 1) * (TOKENS - 1))]
    const input = tokens.slice(0, -1).map(token => [token, { generateNext: { probabilities: true } }])
    const output = await sequence.controlledEvaluate(input)
    output.forEach(({ next }, place) => {
      nll -= Math.log(next.probabilities.get(tokens[place + 1]))
      n++
    })
  }
  await sequence.clearHistory()
  const story = []
  const prompt = [model.tokens.bos, ...model.tokenize('Once upon a time', false)]
  for await (const token of sequence.evaluate(prompt, { temperature: 0 })) {
    story.push(token)
    if (story.length === 24) break
  }
  const { metadata } = model.fileInfo
  const layers = metadata[metadata.general.architecture].block_count
  const result = { perplexity: Math.exp(nll / n), story: model.detokenize(story), layers }
  await model.dispose()
  return result
}

/** llama.cpp rounds activations where weights are quantised, so that its numbers differ a little from exact ones. */
async function check(file, layers, tolerance, tells = true) {
  const ours = laminate(
    'evaluate',
    file,
    '--text',
    join(root, 'src/demo/text.txt'),
    '--draw',
    'first',
    '--samples',
    SEQUENCES,
    '--tokens',
    TOKENS,
  ).perplexity
  const theirs = await byLlama(file)
  assert.equal(theirs.layers, layers)
  assert.ok(Math.abs(theirs.perplexity / ours - 1) < tolerance, `${theirs.perplexity} against ${ours}`)
  if (tells) assert.ok(theirs.story.trim().length > 10, theirs.story)
}

test('quantised files, merged and written in their own types', async () => {
  for (const [type, tolerance] of [
    ['F16', 0.002],
    ['Q8_0', 0.02],
    ['Q4_0', 0.05],
    ['Q4_K_M', 0.05],
  ]) {
    const file = join(folder, `${type}.gguf`)
    laminate('compress', join(models, `gguf/stories260K-${type}.gguf`), '--remove', 1, '--out', file, ...QUICK)
    await check(file, 4, tolerance)
  }
})

test('a Hugging Face model, merged and written as GGUF', async () => {
  const file = join(folder, 'demo.gguf')
  const report = laminate('compress', 'demo', '--remove', 7, '--method', 'mka', '--out', file)
  assert.deepEqual(report.groups, [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
  await check(file, 5, 0.002)
})

test('layers that were fitted, written in floats and in blocks', async () => {
  const fitted = [
    ['laminate', 'F16', 0.002],
    ['laminate', 'Q4_K_M', 0.05],
    ['bi+refit', 'Q8_0', 0.02],
    ['flatten', 'F16', 0.002],
    ['prunecomp', 'F16', 0.002],
    ['replaceme', 'F16', 0.002],
  ]
  for (const [method, type, tolerance] of fitted) {
    const file = join(folder, `${method.replace('+', '-')}-${type}.gguf`)
    const [selection, operator] = method.split('+')
    const how = operator ? ['--selection', selection, '--operator', operator] : ['--method', method]
    laminate(
      'compress',
      join(models, `gguf/stories260K-${type}.gguf`),
      '--remove',
      1,
      ...how,
      '--out',
      file,
      '--samples',
      20,
    )
    await check(file, 4, tolerance)
  }
})

test('every type that can be asked for', async () => {
  for (const type of [
    'f32',
    'bf16',
    'q8_0',
    'q6_k',
    'q5_k',
    'q5_1',
    'q5_0',
    'q4_k',
    'iq4_nl',
    'iq4_xs',
    'q4_1',
    'q4_0',
    'mxfp4',
    'q3_k',
    'q2_k',
  ]) {
    const file = join(folder, `demo-${type}.gguf`)
    laminate('compress', 'demo', '--remove', 7, '--dtype', type, '--out', file, ...QUICK)
    await check(file, 5, 0.06)
  }
})

test('blocks that are rounded by what their inputs are', async () => {
  for (const [type, method] of [
    ['q4_0', 'mka'],
    ['q4_k', 'laminate'],
    ['q3_k_m', 'laminate'],
    ['iq4_nl', 'shortgpt'],
  ]) {
    const file = join(folder, `rounded-${type}.gguf`)
    const report = laminate(
      'compress',
      'demo',
      '--remove',
      7,
      '--dtype',
      type,
      '--rounding',
      'gptq',
      '--samples',
      32,
      '--eval-samples',
      16,
      '--method',
      method,
      '--out',
      file,
    )
    assert.ok(
      report.warnings.some(warning => warning.startsWith('Rounded by gptq')),
      report.warnings.join(' '),
    )
    await check(file, 5, 0.06)
  }
})

test('the best of a size, whose types were chosen part by part', async () => {
  const file = join(folder, 'sized.gguf')
  const size = 380_000
  const report = laminate(
    'compress',
    'demo',
    '--target-size',
    size,
    '--out',
    file,
    '--samples',
    32,
    '--eval-samples',
    16,
  )
  assert.match(report.recipe.output.dtype, /^parts:/)
  assert.ok(statSync(file).size <= size)
  await check(file, report.groups.length, 0.06)
})

test('what nothing else was asked for', async () => {
  const file = join(folder, 'default.gguf')
  const report = laminate('compress', join(models, 'gguf/stories260K-F16.gguf'), '--remove', 1, '--out', file)
  assert.equal(report.recipe.plan.operator, 'pool-refit')
  await check(file, 4, 0.002)
})

test('a result in several files', async () => {
  const report = laminate(
    'compress',
    'demo',
    '--remove',
    7,
    '--max-shard-size',
    '200KB',
    '--out',
    join(folder, 'split.gguf'),
    ...QUICK,
  )
  assert.ok(report.files.length > 2)
  await check(join(folder, report.files[0].name), 5, 0.002)
})

test('a GGUF file of which a Hugging Face folder was made, and back', async () => {
  const source = join(models, 'gguf/stories260K-Q8_0.gguf')
  laminate('compress', source, '--remove', 1, '--out', join(folder, 'hf'), ...QUICK)
  const report = laminate('compress', join(folder, 'hf'), '--remove', 1, '--out', join(folder, 'back.gguf'), ...QUICK)
  assert.equal(report.groups.length, 3)
  await check(join(folder, 'back.gguf'), 3, 0.002)
})

test('every architecture, with a layer dropped, a pair averaged, and a span pooled and refitted, and in 8 bits', async () => {
  const layers = {
    qwen2: 2,
    qwen3: 2,
    granite: 2,
    granite4: 2,
    seed_oss: 2,
    ernie4_5: 2,
    ministral3: 2,
    olmo2: 2,
    olmo3: 3,
    exaone4: 2,
    hunyuan: 2,
    glm4: 2,
    gemma2: 3,
    gemma3: 5,
    gemma4: 5,
    gemma4_dense: 3,
    phi3: 2,
    mixtral: 2,
    qwen2moe: 2,
    qwen3moe: 2,
    granitemoe: 2,
    jamba: 7,
    lfm2: 3,
    qwen3_5: 3,
    cohere: 2,
    cohere2: 3,
    gptoss: 3,
    gptoss_mxfp4: 3,
  }
  for (const [name, n] of Object.entries(layers)) {
    for (const method of ['shortgpt', 'mka', 'laminate']) {
      // Windows alternate, or experts: no two neighbours can be averaged.
      if (['gemma2', 'jamba', 'gptoss', 'gptoss_mxfp4'].includes(name) && method === 'mka') continue
      for (const source of ['hf', 'model.gguf']) {
        if (!existsSync(join(root, 'tests/data/architectures', name, source))) continue
        const file = join(folder, `${name}-${method}-${source.slice(0, 2)}.gguf`)
        laminate(
          'compress',
          join(root, 'tests/data/architectures', name, source),
          '--remove',
          1,
          '--method',
          method,
          '--dtype',
          'f32',
          '--samples',
          24,
          '--tokens',
          32,
          '--out',
          file,
        )
        // llama.cpp keeps keys and values in 16 bits, so that a token that is nearly between two experts goes to the other.
        await check(file, n, name === 'gptoss' && method === 'laminate' ? 0.02 : 0.002, false)
      }
    }
    // In 8 bits llama.cpp rounds activations, and a state that lives on through all tokens takes that hardest.
    const file = join(folder, `${name}-q8_0.gguf`)
    laminate(
      'compress',
      join(root, 'tests/data/architectures', name, 'hf'),
      '--remove',
      1,
      '--method',
      'shortgpt',
      '--dtype',
      'q8_0',
      '--samples',
      24,
      '--tokens',
      32,
      '--out',
      file,
    )
    await check(file, n, name === 'jamba' ? 0.04 : 0.02, false)
  }
})

test('a tokenizer over characters whose merges are listed', async () => {
  const source = join(folder, 'characters')
  cpSync(join(root, 'tests/data/architectures/gemma4_dense/hf'), source, { recursive: true })
  const tokenizer = JSON.parse(readFileSync(join(models, 'stories260K/tokenizer.json'), 'utf8'))
  const pattern = { String: ' ' }
  tokenizer.normalizer = { type: 'Replace', pattern, content: '▁' }
  tokenizer.pre_tokenizer = { type: 'Split', pattern, behavior: 'MergedWithPrevious', invert: false }
  writeFileSync(join(source, 'tokenizer.json'), JSON.stringify(tokenizer))
  const file = join(folder, 'characters.gguf')
  laminate(
    'compress',
    source,
    '--remove',
    1,
    '--dtype',
    'f32',
    '--samples',
    24,
    '--tokens',
    32,
    '--out',
    file,
    '--method',
    'shortgpt',
  )
  await check(file, 3, 0.002, false)
})

test('every architecture with experts, of which some were removed, also besides a layer and in 8 bits', async () => {
  for (const [name, n] of Object.entries({
    mixtral: 3,
    qwen2moe: 3,
    qwen3moe: 3,
    granitemoe: 3,
    jamba: 8,
    gptoss: 4,
    gptoss_mxfp4: 4,
  })) {
    for (const source of ['hf', 'model.gguf']) {
      if (!existsSync(join(root, 'tests/data/architectures', name, source))) continue
      // In 8 bits llama.cpp rounds activations, so that a token that is nearly between two experts goes to the other.
      for (const [type, removed, tolerance] of [
        ['f32', 0, 0.002],
        ['f32', 1, 0.002],
        ['q8_0', 0, 0.05],
      ]) {
        const file = join(folder, `${name}-experts-${type}-${removed}-${source.slice(0, 2)}.gguf`)
        const report = laminate(
          'compress',
          join(root, 'tests/data/architectures', name, source),
          '--remove',
          removed,
          '--remove-experts',
          1,
          '--method',
          'shortgpt',
          '--dtype',
          type,
          '--samples',
          24,
          '--tokens',
          32,
          '--out',
          file,
        )
        assert.ok(report.experts.length > 0 && report.experts.every(layer => layer.removed.length === 1))
        await check(file, n - removed, tolerance, false)
      }
    }
  }
})

test('experts that stay in MXFP4', async () => {
  for (const [removed, experts] of [
    [0, 1],
    [1, 0],
    [1, 1],
  ]) {
    const file = join(folder, `mxfp4-${removed}-${experts}.gguf`)
    laminate(
      'compress',
      join(root, 'tests/data/architectures/gptoss_mxfp4/hf'),
      '--remove',
      removed,
      '--remove-experts',
      experts,
      '--method',
      'shortgpt',
      '--samples',
      24,
      '--tokens',
      32,
      '--out',
      file,
    )
    await check(file, 4 - removed, 0.05, false)
  }
})
