// A failed call, in the server's own words.
import { describeError } from "../api/errors";
import { Button } from "./Button";
import styles from "./Notes.module.css";

export function ErrorNote({ error, onRetry }: { error: unknown; onRetry?: (() => void) | undefined }) {
  const { title, message, violations } = describeError(error);
  return (
    <div className={styles.error} role="alert">
      <p className={styles.title}>{title}</p>
      <p className={styles.text}>{message}</p>
      {violations.length > 0 && (
        <ul className={styles.list}>
          {violations.map((v) => (
            <li key={`${v.field} ${v.description}`}>
              <code>{v.field}</code>: {v.description}
            </li>
          ))}
        </ul>
      )}
      {onRetry !== undefined && <Button onClick={onRetry}>Try again</Button>}
    </div>
  );
}
