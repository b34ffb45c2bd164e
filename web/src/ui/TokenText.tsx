// A token in a table or a line of text: spaces at its ends are shown as dots, special tokens are dimmed.
import type { Token } from "../gen/featurescope/v1/catalog_pb.js";
import styles from "./TokenText.module.css";

export function TokenText({ token }: { token: Token | undefined }) {
  if (token === undefined) return <span className={styles.space}>–</span>;
  if (token.special) return <span className={`${styles.token} ${styles.space}`}>{token.display}</span>;
  const text = token.display.trim();
  const from = text === "" ? token.display.length : token.display.indexOf(text);
  return (
    <span className={styles.token}>
      <Dots n={from} />
      {text}
      <Dots n={token.display.length - from - text.length} />
    </span>
  );
}

function Dots({ n }: { n: number }) {
  return n > 0 ? <span className={styles.space}>{"·".repeat(n)}</span> : null;
}
