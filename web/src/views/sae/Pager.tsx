// First, previous and next page.
import { formatCount } from "../../lib/format";
import { Button } from "../../ui/Button";
import styles from "./SaeView.module.css";
import { page_sizes } from "./listing";
import { pageRange } from "./trail";

interface Props {
  page: number;
  size: number;
  shown: number;
  total: number;
  next: string;
  previous: string | undefined;
  onGo: (page: number, token: string) => void;
  onSize: (size: number) => void;
}

export function Pager({ page, size, shown, total, next, previous, onGo, onSize }: Props) {
  const [first, last] = pageRange(page, size, shown, total);
  return (
    <nav className={styles.pager} aria-label="Pages">
      <span aria-live="polite">
        {total === 0 ? "No feature passes the filter" : `${formatCount(first)}–${formatCount(last)} of ${formatCount(total)}`}
      </span>
      <label>
        Rows{" "}
        <select value={size} onChange={(e) => onSize(Number(e.target.value))}>
          {[...new Set([...page_sizes, size])]
            .sort((a, b) => a - b)
            .map((n) => (
              <option key={n}>{n}</option>
            ))}
        </select>
      </label>
      <Button disabled={page <= 1} onClick={() => onGo(1, "")}>
        First
      </Button>
      <Button disabled={page <= 1 || previous === undefined} onClick={() => onGo(page - 1, previous ?? "")}>
        Previous
      </Button>
      <Button disabled={next === ""} onClick={() => onGo(page + 1, next)}>
        Next
      </Button>
    </nav>
  );
}
