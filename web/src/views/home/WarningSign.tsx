// A sign that something is worth reading, with its text for the pointer and for screen readers.
import styles from "./HomeView.module.css";

export function WarningSign({ warnings }: { warnings: string[] }) {
  if (warnings.length === 0) return null;
  const text = warnings.join("\n");
  return (
    <span className={styles.warn} title={text}>
      <span aria-hidden="true">▲</span>
      <span className="sr-only">
        {warnings.length === 1 ? "One warning" : `${warnings.length} warnings`}: {text}
      </span>
    </span>
  );
}
