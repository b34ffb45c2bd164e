// Loading, nothing there, and things to know.
import { useState, type ReactNode } from "react";

import { Button } from "./Button";
import styles from "./Notes.module.css";

export function Loading({ what }: { what: string }) {
  return (
    <p className={styles.loading} role="status">
      Loading {what}…
    </p>
  );
}

export function Warning({ children }: { children: ReactNode }) {
  return (
    <div className={styles.warning}>
      <strong>Note</strong> <span>{children}</span>
    </div>
  );
}

// Nothing to show, and how to change that: the command to run, ready to copy.
export function Empty({ title, command, children }: { title: string; command?: string; children?: ReactNode }) {
  return (
    <div className={styles.empty}>
      <p className={styles.title}>{title}</p>
      {children}
      {command !== undefined && <Command text={command} />}
    </div>
  );
}

export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(text).then(() => {
      setCopied(true);
      window.setTimeout(() => setCopied(false), 1500);
    });
  };
  return (
    <div className={styles.command}>
      <code>{text}</code>
      {navigator.clipboard !== undefined && (
        <Button look="quiet" onClick={copy} aria-label={`Copy the command: ${text}`}>
          {copied ? "Copied" : "Copy"}
        </Button>
      )}
    </div>
  );
}
