import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { matrixCsv } from '../../www/charts/export'
import { csvFile, isMatrixCsv, readMatrixCsv, recordsOf } from '../../www/figures/csv'
import { curveTable, mapsArray, mapsTable, mergesTable, spectrumTable, tableArray } from '../../www/figures/figures'
import { arrayOf, npyFile, readNpy } from '../../www/figures/npy'
import { goldenPlan, stored } from './stored'

const bytesOf = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'))

/** What numpy 2.4 saves: a matrix, the same big-endian, big-endian float32 in Fortran order, a vector with NaN, three axes, integers. */
const NUMPY = {
  matrix:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAADwPwAAAAAAAOA/AAAAAAAA4D8AAAAAAADwPw==',
  swapped:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPmY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo/8AAAAAAAAD/gAAAAAAAAP+AAAAAAAAA/8AAAAAAAAA==',
  fortran:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPmY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMywgMiksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo/gAAAPwAAAEBAAAA+gAAAQAAAAECAAAA=',
  vector:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAD4PwAAAAAAAPh/AAAAAAAAAsA=',
  solid:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEAAAAAAAAAIQAAAAAAAABBAAAAAAAAAFEAAAAAAAAAYQAAAAAAAABxAAAAAAAAAIEAAAAAAAAAiQAAAAAAAACRAAAAAAAAAJkA=',
  integers:
    'k05VTVBZAQB2AHsnZGVzY3InOiAnPGk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAAAgAAAAIAAAABAAAA',
}

describe('NPY', () => {
  test('the bytes that numpy writes, for one, two and three axes', () => {
    expect(
      npyFile(
        arrayOf([
          [1, 0.5],
          [0.5, 1],
        ]),
      ),
    ).toEqual(bytesOf(NUMPY.matrix))
    expect(npyFile(arrayOf([1.5, NaN, -2.25]))).toEqual(bytesOf(NUMPY.vector))
    expect(npyFile({ shape: [2, 3, 2], data: Float64Array.from({ length: 12 }, (_, i) => i) })).toEqual(
      bytesOf(NUMPY.solid),
    )
  })
  test('the data begin at a multiple of 64 whatever the shape', () => {
    for (const shape of [[], [7], [1, 1], [123_456, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 11, 12, 13, 14, 15, 16]]) {
      const file = npyFile({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) })
      expect((file.length - 8 * shape.reduce((a, b) => a * b, 1)) % 64).toBe(0)
      expect(readNpy(file, 'x').shape).toEqual(shape)
    }
  })
  test('reads what numpy writes otherwise: byte order, float32, Fortran order', () => {
    expect(readNpy(bytesOf(NUMPY.swapped), 'x')).toEqual(
      arrayOf([
        [1, 0.5],
        [0.5, 1],
      ]),
    )
    expect(readNpy(bytesOf(NUMPY.fortran), 'x')).toEqual(
      arrayOf([
        [1, 0.25],
        [0.5, 2],
        [3, 4],
      ]),
    )
  })
  test.each([
    ['cut short', bytesOf(NUMPY.matrix).subarray(0, -3), /^s\.npy should hold 4 numbers by its header, and holds 3\./],
    ['no header', bytesOf(NUMPY.matrix).subarray(0, 8), /^s\.npy is cut short/],
    ['half a header', bytesOf(NUMPY.matrix).subarray(0, 40), /^s\.npy is cut short inside/],
    ['integers', bytesOf(NUMPY.integers), /the type “<i4”/],
    ['another version', bytesOf(NUMPY.matrix).with(6, 9), /version 9/],
  ])('%s: one sentence', (_, bytes, sentence) => {
    expect(() => readNpy(bytes, 's.npy')).toThrow(sentence)
  })
  test('numpy loads it, where there is one', () => {
    const code =
      'import sys, io, numpy as n; a = n.load(io.BytesIO(sys.stdin.buffer.read())); print(a.dtype, a.shape, repr(a.sum().item()))'
    const file = npyFile(arrayOf(stored.similarity))
    const found = [process.env.LAMINATE_PYTHON, 'python3']
      .filter(Boolean)
      .map(python => spawnSync(python!, ['-c', code], { input: file }))
    const sum = Number(
      found
        .find(({ status }) => status === 0)
        ?.stdout.toString()
        .split(') ')[1] ?? NaN,
    )
    const loaded = found.find(({ status }) => status === 0)?.stdout.toString() ?? ''
    if (!loaded) return console.warn('SKIPPED: loading an NPY file in numpy, because no Python with numpy was found')
    expect(loaded).toMatch(/^float64 \(12, 12\) /)
    expect(sum).toBeCloseTo(
      stored.similarity.flat().reduce((a, b) => a + b),
      9,
    )
  })
})

describe('tables', () => {
  test('a matrix comes back from CSV with every digit', () => {
    const csv = matrixCsv(stored.similarity)
    expect(isMatrixCsv(csv)).toBe(true)
    expect(readMatrixCsv(csv, 'x')).toEqual(stored.similarity)
    expect(readMatrixCsv(`\uFEFF${csv.replaceAll('\n', '\r\n')}`, 'x')).toEqual(stored.similarity)
  })
  test.each([
    ['layer,0,1\n0,1,0.5\n', /it names 2 layers in its first line and has rows for 1/],
    ['layer,0,2\n0,1,0.5\n1,0.5,1\n', /its first line must be/],
    ['layer,0,1\n0,1,x\n1,0.5,1\n', /“x” in row 0, column 1 is not a finite number/],
    ['layer,0,1\n0,1,\n1,0.5,1\n', /“” in row 0, column 1/],
    ['layer,0,1\n0,1\n1,0.5,1\n', /row 0 has 1 numbers and there are 2 layers/],
    ['layer,0,1\n0,1,0.5\n2,0.5,1\n', /row 1 begins with “2”/],
  ])('%j: one sentence', (csv, sentence) => expect(() => readMatrixCsv(csv, 's.csv')).toThrow(sentence))
  test('cells with commas are quoted, and none is a formula', () => {
    expect(
      csvFile({
        columns: ['a', 'b'],
        rows: [
          ['x,"y"', -1],
          ['=1+1', null],
          ['-2+3', true],
        ],
      }),
    ).toBe('a,b\n"x,""y""",-1\n\'=1+1,\n-2+3,true\n')
    expect(csvFile({ columns: ['a'], rows: [['@x'], ['-x'], ['two\nlines']] })).toBe('a\n\'@x\n\'-x\n"two\nlines"\n')
    expect(recordsOf({ columns: ['a', 'b'], rows: [[1]] })).toEqual([{ a: 1, b: null }])
  })
  test('the numbers of the figures are those of the report', async () => {
    const plan = await goldenPlan(7)
    const maps = mapsTable(stored, [2])
    expect(maps.columns).toEqual(['layer', 'point', 'psi_1', 'psi_2', 'sequence', 'position', 'text'])
    expect(maps.rows[5]).toEqual([2, 5, ...stored.embedding[2]![5]!, 5, 47, stored.point_list[5]!.text])
    expect(mapsArray(stored, [0, 3])).toEqual({
      shape: [2, 128, 2],
      data: Float64Array.from([stored.embedding[0], stored.embedding[3]].flat(3) as number[]),
    })
    expect(spectrumTable(stored.eigenvalues).rows[11]).toEqual([11, ...stored.eigenvalues[11]!])
    expect(mergesTable(plan).rows[2]).toEqual([
      3,
      '1',
      '2 3',
      plan.plan.steps[2]!.alpha,
      plan.plan.steps[2]!.similarity,
      9,
    ])
    const curve = curveTable(plan)
    expect(curve.rows).toHaveLength(8)
    expect(curve.rows[7]!.slice(0, 4)).toEqual([7, 5, plan.bytes.after, plan.merged.perplexity])
    expect(tableArray(curve)?.shape).toEqual([8, 9])
    expect(tableArray(mergesTable(plan))).toBeNull()
  })
})
