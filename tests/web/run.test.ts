import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CALIBRATION, PLAN } from '../../www/app/defaults'
import { openKept, keptLayers, KEPT, PrivateParts } from '../../www/engine/parts'
import { metered } from '../../www/engine/meter'
import type { Progress } from '../../www/engine/protocol/events'
import { Awake } from '../../www/app/run/awake'
import { layersFrom, planOf, type Known } from '../../www/app/run/parts'
import { captureKey, isSameModel, keptOrigin, withDraw, type KeptRun } from '../../www/keep/record'
import { canReopen, reopen } from '../../www/keep/reopen'
import { Turns, takenSentence, type Turn } from '../../www/app/run/turn'
import { keyOf } from '../../www/app/keys'
import type { Run } from '../../www/app/state.svelte'
import { MemoryDirectory } from './memory'
import { stored } from './stored'

afterEach(() => {
  vi.unstubAllGlobals()
})

describe('the screen stays on', () => {
  function screen() {
    const released = vi.fn(async () => {})
    const locks = { request: vi.fn(async (_type: 'screen') => ({ release: released })) }
    const page = Object.assign(new EventTarget(), { visibilityState: 'visible' as DocumentVisibilityState })
    return { locks, released, page, awake: new Awake(locks, page as unknown as Document) }
  }

  test('while a run goes on, and again after the page was hidden', async () => {
    const { locks, released, page, awake } = screen()
    awake.on()
    await vi.waitFor(() => expect(locks.request).toHaveBeenCalledTimes(1))
    page.visibilityState = 'hidden'
    page.dispatchEvent(new Event('visibilitychange'))
    page.visibilityState = 'visible'
    page.dispatchEvent(new Event('visibilitychange'))
    await vi.waitFor(() => expect(locks.request).toHaveBeenCalledTimes(2))
    awake.off()
    await vi.waitFor(() => expect(released).toHaveBeenCalledTimes(2))
    page.dispatchEvent(new Event('visibilitychange'))
    await new Promise(resolve => setTimeout(resolve, 5))
    expect(locks.request).toHaveBeenCalledTimes(2)
  })

  test('a lock that comes after the end is given back', async () => {
    const { released, awake } = screen()
    awake.on()
    awake.off()
    await new Promise(resolve => setTimeout(resolve, 5))
    expect(released.mock.calls.length).toBeLessThanOrEqual(1)
  })

  test('nothing breaks without, or where it is refused', async () => {
    const none = new Awake(null, null)
    none.on()
    none.off()
    const refusing = new Awake(
      {
        request: async () => {
          throw new DOMException('no', 'NotAllowedError')
        },
      },
      null,
    )
    refusing.on()
    refusing.off()
    await new Promise(resolve => setTimeout(resolve, 5))
  })
})

describe('one run at a time', () => {
  /** The Web Locks that are used here: exclusive and shared ones of one name, in the order of asking. */
  function locks() {
    let tail: Promise<unknown> = Promise.resolve()
    let held = 0
    return {
      query: async () => ({ held: held > 0 ? [{ name: 'laminate-run' }] : [] }),
      async request(
        _name: string,
        options: { ifAvailable?: boolean; signal?: AbortSignal },
        work: (lock: object | null) => Promise<unknown>,
      ) {
        if (options.ifAvailable && held > 0) return work(null)
        const before = tail
        let end = () => {}
        tail = new Promise<void>(resolve => (end = resolve))
        const stopped = new Promise<never>((_, reject) => {
          const stop = () => reject(new DOMException('stopped', 'AbortError'))
          if (options.signal?.aborted) stop()
          options.signal?.addEventListener('abort', stop)
        })
        held++
        try {
          await Promise.race([before, stopped])
          return await work({})
        } finally {
          held--
          void before.then(end)
        }
      },
    }
  }

  beforeEach(() => {
    vi.stubGlobal('navigator', { locks: locks() })
  })

  const turn: Turn = { what: 'comparing the layers of a', where: 'layer 2 of 12' }
  const never = () => new AbortController().signal

  test('another tab hears what runs, waits, and takes over', async () => {
    const heard: (Turn | null)[] = []
    const [first, second] = [new Turns(() => {}), new Turns(turn => heard.push(turn))]
    first.start()
    second.start()
    let end = () => {}
    const one = first.take(
      () => turn,
      never(),
      () => {},
      () => new Promise<void>(resolve => (end = resolve)),
    )
    await vi.waitFor(() => expect(heard.at(-1)).toEqual(turn))
    expect(takenSentence(turn)).toBe('Another tab of this browser is comparing the layers of a, layer 2 of 12.')
    const waiting = vi.fn()
    const two = second.take(
      () => turn,
      never(),
      waiting,
      async () => 'done',
    )
    await vi.waitFor(() => expect(waiting).toHaveBeenCalled())
    end()
    await one
    expect(await two).toBe('done')
    await vi.waitFor(() => expect(heard.at(-1)).toBeNull())
  })

  test('who waits can stop waiting', async () => {
    const [first, second] = [new Turns(() => {}), new Turns(() => {})]
    let end = () => {}
    const one = first.take(
      () => turn,
      never(),
      () => {},
      () => new Promise<void>(resolve => (end = resolve)),
    )
    const controller = new AbortController()
    const two = second.take(
      () => turn,
      controller.signal,
      () => controller.abort(),
      async () => 'done',
    )
    await expect(two).rejects.toMatchObject({ name: 'AbortError' })
    end()
    await one
  })

  test('a browser without locks runs at once', async () => {
    vi.stubGlobal('navigator', {})
    expect(
      await new Turns(() => {}).take(
        () => turn,
        never(),
        () => {},
        async () => 7,
      ),
    ).toBe(7)
  })
})

describe('parts in the private storage', () => {
  let root: MemoryDirectory
  beforeEach(() => {
    root = new MemoryDirectory('')
    vi.stubGlobal('navigator', { storage: { getDirectory: async () => root } })
  })

  test.each([true, false])('have their names once they are whole (rename possible: %s)', async movable => {
    root.movable = movable
    const folder = (await root.getDirectoryHandle(KEPT)).handle
    const store = new PrivateParts(async () => folder)
    await store.create('states-0003')
    await store.write(new Uint8Array([1, 2, 3]))
    expect(await store.names()).toEqual([])
    await store.close()
    expect(await store.names()).toEqual(['states-0003'])
    expect([...(await store.read('states-0003', 1, 2)), await store.size('states-0003')]).toEqual([2, 3, 3])
    expect(await keptLayers()).toBe(3)
    await store.remove('states-0003')
    await store.remove('states-0003')
    expect(await store.names()).toEqual([])
  })

  test('a full disk is said in a sentence', async () => {
    root.room = 2
    const store = await openKept(false)
    await store!.create('layer-0000')
    await expect(store!.write(new Uint8Array(3))).rejects.toMatchObject({
      kind: 'limit',
      message: "the disk or this browser's storage is full",
    })
  })

  test('a new run begins in an empty place; without storage there is none', async () => {
    const store = await openKept(false)
    await store!.create('layer-0000')
    await store!.close()
    expect(await (await openKept(true))!.names()).toEqual([])
    vi.stubGlobal('navigator', {})
    expect(await openKept(true)).toBeNull()
    expect(await keptLayers()).toBe(0)
  })
})

describe('a model is found again', () => {
  const file = (name: string, size: number) => ({ name, file: { size } as File })
  const local = keptOrigin({ folder: 'm', files: [file('a', 1), file('b', 2)] })

  test('by names and sizes, in any order', () => {
    expect(isSameModel(local, keptOrigin({ folder: 'other', files: [file('b', 2), file('a', 1)] }))).toBe(true)
    expect(isSameModel(local, keptOrigin({ folder: 'm', files: [file('a', 1), file('b', 3)] }))).toBe(false)
    expect(isSameModel(local, { kind: 'demo' })).toBe(false)
  })

  test('on a server without the token, which is never kept', () => {
    const url = 'https://hub/x'
    const secret = keptOrigin({ folder: 'm', files: [{ name: 'x', url, token: 'hf_secret' }] })
    expect(JSON.stringify(secret)).not.toContain('hf_secret')
    expect(canReopen(secret)).toBe(false)
    const open = keptOrigin({ folder: 'm', files: [{ name: 'x', url }] })
    expect([canReopen(open), isSameModel(open, secret)]).toEqual([true, true])
  })

  test('by its handles where the browser has such, with permission asked for', async () => {
    const handle = {
      kind: 'file',
      name: 'a',
      queryPermission: async () => 'prompt',
      requestPermission: vi.fn(async () => 'granted'),
      getFile: async () => ({ size: 1 }),
    } as unknown as FileSystemHandle & { requestPermission: ReturnType<typeof vi.fn> }
    const origin = keptOrigin({ folder: undefined, files: [file('a', 1)], handles: [handle] })
    expect(canReopen(origin)).toBe(true)
    expect(await reopen(origin)).toMatchObject({ files: [{ name: 'a' }] })
    expect(handle.requestPermission).toHaveBeenCalled()
    handle.requestPermission.mockResolvedValue('denied')
    await expect(reopen(origin)).rejects.toMatchObject({ message: expect.stringContaining('"a" may not be read') })
    const grown = keptOrigin({
      folder: 'g',
      files: [file('a', 2)],
      handles: [{ ...handle, queryPermission: async () => 'granted' } as never],
    })
    await expect(reopen(grown)).rejects.toMatchObject({ message: expect.stringContaining('its files have changed') })
  })

  test('a run goes on with other settings of the map, and not with another text', () => {
    const key = captureKey(local, CALIBRATION)
    expect(captureKey(local, { ...CALIBRATION, metric: 'cka', dims: 5, neighbours: 3 })).toBe(key)
    for (const other of [{ samples: 7 }, { text: 'x' }, { points: 'mean' as const }, { draw: 'spread' as const }])
      expect(captureKey(local, { ...CALIBRATION, ...other })).not.toBe(key)
  })
})

describe('a run that an earlier version kept', () => {
  const { draw: _, ...before } = CALIBRATION
  const [maps, plan] = [keyOf(before), keyOf([keyOf(before), PLAN, null])]
  const kept = {
    version: 1,
    origin: { kind: 'demo' },
    model: stored.model,
    calibration: before,
    layers: 12,
    pending: false,
    at_ms: 1,
    maps: { report: stored, options: before, key: maps },
    plan: { report: {}, options: PLAN, key: plan },
  } as unknown as KeptRun

  test('took the first parts of its text, and stays as fresh as it was', () => {
    const run = withDraw(kept)
    expect([run.calibration, run.maps?.options]).toEqual([CALIBRATION, CALIBRATION])
    expect([run.maps?.key, run.plan?.key]).toEqual([keyOf(CALIBRATION), keyOf([keyOf(CALIBRATION), PLAN, null])])
    expect(withDraw(run)).toBe(run)
    expect(withDraw({ ...kept, maps: null, plan: null })).toMatchObject({
      calibration: CALIBRATION,
      maps: null,
      plan: null,
    })
  })
})

describe('one plan of a run', () => {
  const progress = (done: number, detail: string, more: Partial<Progress> = {}): Progress => ({
    stage: 'capture',
    done,
    total: 12,
    unit: 'layers',
    detail,
    ...more,
  })
  const base: Run = {
    kind: 'similarity',
    controller: new AbortController(),
    first: null,
    last: null,
    cancelling: false,
    pause: 'no',
    waiting: false,
    kept: null,
    layersFrom: null,
  }
  const model = { ...stored.model, layers: 12, bytes: 12e6, hidden_size: 64, vocab_size: 512 }
  const known: Known = {
    moved: { read: 3e6, written: 0 },
    model,
    estimate: null,
    result: 0,
    embedded: false,
    now_ms: 0,
  }
  const at = (run: Run, at_ms: number, tick: Progress): Run => {
    const last = { at_ms, progress: tick }
    return { ...run, layersFrom: layersFrom(run, last), first: run.first ?? last, last }
  }

  test('names reading, computing and keeping apart, and the time of all that is left', () => {
    let run = at(base, 0, progress(0, 'layer 1 of 12'))
    run = at(run, 4000, progress(4, 'layer 5 of 12'))
    run = { ...run, kept: { layers: 4, bytes: 5e5, trouble: null } }
    expect(planOf(run, { ...known, now_ms: 4000 })).toEqual({
      parts: [
        { name: 'Computing', amount: 'layer 5 of 12' },
        { name: 'Reading', amount: '3.00\u00a0MB of about 12.0\u00a0MB of weights' },
        { name: 'Keeping', amount: '500\u00a0kB in this browser, the first 4 layers' },
      ],
      left: 'about 8\u00a0s left',
    })
    expect(planOf({ ...run, pause: 'held' }, known).left).toBe('')
  })

  test('a run that went on at layer 7 reads half, and its pace is that of the layers it ran', () => {
    let run = at(base, 1000, progress(0, 'layer 7 of 12', { total: 6 }))
    run = at(run, 3000, progress(2, 'layer 9 of 12', { total: 6 }))
    const plan = planOf(run, { ...known, now_ms: 3000 })
    expect(plan.parts[1]?.amount).toContain('of about 6.00\u00a0MB')
    expect(plan.left).toBe('about 4\u00a0s left')
  })

  test('the demo reads nothing from a disk, and before the first layer the estimate says how long', () => {
    const estimate = {
      peak_bytes: 0,
      layer_bytes: 0,
      state_bytes: 0,
      checkpoint_bytes: 0,
      flop: 0,
      seconds: 24,
      sequences: 0,
      tokens: 0,
    }
    const run = at(base, 0, progress(0, 'layer 1 of 12'))
    expect(planOf(run, { ...known, embedded: true, estimate })).toEqual({
      parts: [{ name: 'Computing', amount: 'layer 1 of 12' }],
      left: 'about 24\u00a0s left',
    })
  })

  test('what is read ahead is counted, and a read that nobody awaits may fail', async () => {
    const moved = { read: 0, written: 0 }
    const source = metered(
      {
        name: 'x',
        size: 9,
        read: async (_, n) => {
          if (n > 9) throw new Error('x')
          return new Uint8Array(n)
        },
      },
      () => moved,
    )
    await source.read(0, 4)
    await expect(source.read(0, 10)).rejects.toThrow()
    expect(moved.read).toBe(4)
  })
})
