// Tokens as they are shown: bytes and the server's printable form.
import type { Token } from "../gen/featurescope/v1/catalog_pb.js";

const decoder = new TextDecoder("utf-8");

// Whether the token's bytes contain a line break.
export function breaksLine(token: Token): boolean {
  return token.text.includes(10);
}

// The token for a table cell or a tooltip: in quotes, so that spaces are seen; special ones bare.
export function quoted(token: Token | undefined): string {
  if (token === undefined) return "–";
  return token.special ? token.display : `“${token.display}”`;
}

// The bytes of several tokens joined, invalid UTF-8 replaced; special tokens are left out.
export function joinText(tokens: readonly Token[]): string {
  const parts = tokens.filter((token) => !token.special).map((token) => token.text);
  const bytes = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return decoder.decode(bytes);
}
