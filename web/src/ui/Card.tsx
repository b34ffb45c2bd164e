// A titled section of a view.
import type { ReactNode } from "react";

import styles from "./Card.module.css";

interface Props {
  title: ReactNode;
  note?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  flush?: boolean;
  id?: string;
}

export function Card({ title, note, actions, children, flush = false, id }: Props) {
  return (
    <section className={styles.card} id={id}>
      <header className={styles.head}>
        <h2>{title}</h2>
        {note !== undefined && <div className={styles.note}>{note}</div>}
        {actions !== undefined && <div className={styles.actions}>{actions}</div>}
      </header>
      <div className={flush ? styles.flush : styles.body}>{children}</div>
    </section>
  );
}
