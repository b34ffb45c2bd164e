// The way back through keyset pages.
//
// A page token only leads forward, so the tokens of the pages passed are remembered per listing (order,
// filter, page size) for this tab. A deep link into the middle knows no way back but to the first page.

export class PageTrail {
  private readonly tokens = new Map<string, string[]>();

  // Page `page` (1 is the first) of `listing` begins at `token`.
  remember(listing: string, page: number, token: string): void {
    const known = this.tokens.get(listing) ?? [];
    known[page] = token;
    this.tokens.set(listing, known);
  }

  // The token of a page; "" is the first page's; undefined where it is not known.
  tokenOf(listing: string, page: number): string | undefined {
    return page <= 1 ? "" : this.tokens.get(listing)?.[page];
  }
}

// What identifies a listing whatever its page.
export function listingKey(listing: { page_token: string }): string {
  return JSON.stringify({ ...listing, page_token: "" });
}

// Which features a page shows, counted from 1, e.g. 51–100 of 1 024.
export function pageRange(page: number, size: number, shown: number, total: number): [number, number] {
  if (shown === 0) return [0, 0];
  const first = (page - 1) * size + 1;
  return [first, Math.min(first + shown - 1, Math.max(total, first))];
}
