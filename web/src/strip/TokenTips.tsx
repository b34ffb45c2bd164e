// The one tooltip for all tokens inside it, by event delegation: thousands of tokens, four listeners.
import { useCallback, useLayoutEffect, useRef, useState, type ReactNode, type SyntheticEvent } from "react";

import { findTip, type TokenTip } from "./tips";
import styles from "./TokenTips.module.css";

interface Shown {
  tip: TokenTip;
  anchor: DOMRect;
}

export function TokenTips({ children }: { children: ReactNode }) {
  const [shown, setShown] = useState<Shown | null>(null);
  const show = useCallback((event: SyntheticEvent) => {
    const found = findTip(event.target);
    const anchor = found?.element.getClientRects()[0];
    setShown(found && anchor ? { tip: found.tip, anchor } : null);
  }, []);
  const hide = useCallback(() => setShown(null), []);
  return (
    <div onPointerOver={show} onPointerLeave={hide} onFocus={show} onBlur={hide} onPointerDown={hide}>
      {children}
      {shown && <Tip {...shown} />}
    </div>
  );
}

function Tip({ tip, anchor }: Shown) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const box = ref.current;
    if (box === null) return;
    const { width, height } = box.getBoundingClientRect();
    const left = Math.min(Math.max(8, anchor.left + anchor.width / 2 - width / 2), window.innerWidth - width - 8);
    const above = anchor.top - height - 6;
    box.style.left = `${left}px`;
    box.style.top = `${above >= 8 ? above : anchor.bottom + 6}px`;
  }, [tip, anchor]);
  return (
    <div className={styles.tip} ref={ref} aria-hidden="true" data-testid="token-tip">
      <p className={styles.title}>{tip.title}</p>
      {tip.note !== undefined && <p className={styles.note}>{tip.note}</p>}
      <dl className={styles.rows}>
        {tip.rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {tip.bars !== undefined && tip.bars.length > 0 && (
        <dl className={styles.bars}>
          {tip.bars.map(([name, share], i) => (
            <div key={i}>
              <dt>{name}</dt>
              <dd>
                <span style={{ width: `${Math.max(1, share * 64)}px` }} />
                {(share * 100).toFixed(1)}
              </dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}
