// Writes llama_cpp.json: what llama.cpp makes of texts that are hard to cut, with each vocabulary here and with
// each pre-tokenizer put over one of them.
//
//     npm install --ignore-scripts node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
//     node make_llama_cpp.mjs

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { getLlama } from 'node-llama-cpp'

const here = import.meta.dirname
const vocabularies = ['gpt-2', 'llama-bpe', 'llama-spm', 'phi-3', 'qwen2']
const preTokenizers = {
  'gpt-2': ['smollm', 'bloom', 'viking', 'deepseek-coder', 'default'],
  'llama-bpe': ['smaug-bpe', 'qwen2', 'seed-coder', 'deepseek-v3', 'default'],
}

const spaces = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 64].flatMap(n => {
  const run = ' '.repeat(n)
  return [run, `${run}a`, `x${run}x\n`, `${run}\n${run}\n`]
})
const texts = [
  // Names of control and user-defined tokens, and of bytes.
  'a</s> b <s>c<unk> <unk> <|end|> <0x0A>x<0x41>',
  '<|assistant|> <|user|>  x </s>   y [PAD32011] [PAD151646] x',
  '<|endoftext|><|im_start|>user\n<|eot_id|> <|begin_of_text|>',
  ...spaces,
  // Contractions, digits, punctuation, line ends.
  "I'll he'S they'RE we'd 'tis rock'n'roll DON'T x's's ''s 's",
  '1 12 123 1234 12345 1,234,567.89 ½ Ⅷ ٣٤ 2²',
  '...!?;:--==>> $%^&* (){}[] `code` "q" a_b a-b a.b',
  'a\r\nb\r\n\r\nc\n \n\t\n  d\re',
  'HelloWorld helloWORLD HTTPServer iPhone ABCdef',
  // White space and marks beyond ASCII.
  'a\u00a0b\u2003c\u3000d\u0085e\u200bf\u000bg\ufeffh\u2028i',
  'e\u0301te\u0301 A\u030angstro\u0308m na\u00efve \u00c9cole \u00e9\u00c9 \u1e9e \u01c5',
  '\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u05e2\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8',
  "\u{1f469}\u200d\u{1f469}\u200d\u{1f467} \u{1f1e9}\u{1f1ea} \u263a\ufe0f's \u{1f680}\u{1f680} \u{1d54f} \u{10348}",
  '\u2581a \u2581 b\u2581\u2581c',
]

const llama = await getLlama({ build: 'never', gpu: false, logLevel: 'disabled' })
const folder = mkdtempSync(join(tmpdir(), 'vocabularies-'))
const ids = {}
for (const vocabulary of vocabularies) {
  const modelPath = join(folder, `${vocabulary}.gguf`)
  writeFileSync(modelPath, gunzipSync(readFileSync(join(here, `ggml-vocab-${vocabulary}.gguf.gz`))))
  for (const pre of [null, ...(preTokenizers[vocabulary] ?? [])]) {
    const metadataOverrides = pre === null ? {} : { tokenizer: { ggml: { pre } } }
    const model = await llama.loadModel({ modelPath, vocabOnly: true, metadataOverrides })
    ids[pre === null ? vocabulary : `${vocabulary} ${pre}`] = texts.map(text => model.tokenize(text, false))
    await model.dispose()
  }
}
rmSync(folder, { recursive: true })

const lines = Object.entries(ids).map(([name, lists]) => {
  const each = lists.map(list => `      ${JSON.stringify(list)}`)
  return `    ${JSON.stringify(name)}: [\n${each.join(',\n')}\n    ]`
})
const json = `{\n  "texts": ${JSON.stringify(texts)},\n  "ids": {\n${lines.join(',\n')}\n  }\n}\n`
writeFileSync(join(here, 'llama_cpp.json'), json)
await llama.dispose()
