/** Who a token belongs to, and whether it may write: pure functions of the hub's answer to "who am I". */
import type { whoAmI } from '@huggingface/hub'

/** What the hub says besides what its library's types know. */
interface Said {
  orgs?: { name: string; roleInOrg?: string }[]
  auth?: {
    accessToken?: {
      role?: string
      /** For each account or repository what the token may there, where the token is a fine-grained one. */
      fineGrained?: { scoped?: { entity?: { name?: string }; permissions?: string[] }[] }
    }
  }
}

export type Account = Pick<Awaited<ReturnType<typeof whoAmI>>, 'name'> & Said

/** `name`, or `organisation/name`, as a repository of the account or of one of its organisations. */
export function ownRepository(typed: string, account: Account): string {
  const text = typed.trim()
  return text.includes('/') ? text : `${account.name}/${text}`
}

/** Why the account may not write to the repository by this token; empty where it may, as far as it is told. */
export function whyNoWriting(account: Account, repository: string, hub: string): string {
  const [owner = ''] = repository.split('/')
  const same = (name: string | undefined) => name?.toLowerCase() === owner.toLowerCase()
  const organisation = account.orgs?.find(({ name }) => same(name))
  if (!same(account.name) && !organisation)
    return `The token belongs to ${account.name}, and ${owner} is somebody else. Name the repository ${account.name}/${repository.split('/')[1]}, or give a token of ${owner}.`
  if (organisation?.roleInOrg === 'read')
    return `The account ${account.name} may only read in ${owner}. Choose a repository of your own, or ask for the right to write there.`
  const token = account.auth?.accessToken
  const another = `Make one that may at ${hub}/settings/tokens.`
  if (token?.role === 'read') return `This token of ${account.name} may only read. ${another}`
  const scopes = token?.role === 'fineGrained' ? token.fineGrained?.scoped : undefined
  const allowed = scopes?.some(
    ({ entity, permissions }) =>
      (same(entity?.name) || entity?.name?.toLowerCase() === repository.toLowerCase()) &&
      permissions?.includes('repo.write'),
  )
  return scopes && !allowed
    ? `This token of ${account.name} may not write to the repositories of ${owner}. ${another}`
    : ''
}
