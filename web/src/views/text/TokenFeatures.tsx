// The strongest features of each token; a token chosen in the strip above is scrolled to and marked.
import { useEffect, useRef } from "react";
import { Link } from "wouter";

import type { TextActivations } from "../../gen/featurescope/v1/explore_pb.js";
import { heatStep } from "../../lib/colour";
import { formatActivation } from "../../lib/format";
import { row, strongest } from "../../lib/sparse";
import table from "../../ui/Table.module.css";
import { Loading } from "../../ui/Notes";
import { TokenText } from "../../ui/TokenText";
import { featureLink } from "../../url/links";
import styles from "./TextView.module.css";

const k_shown = 6;

interface Props {
  sae: string;
  text: TextActivations | undefined;
  own_text: string;
  chosen: number | undefined;
  onChoose: (token: number | undefined) => void;
}

export function TokenFeatures({ sae, text, own_text, chosen, onChoose }: Props) {
  const list = useRef<HTMLDivElement>(null);
  const isReady = text !== undefined;
  useEffect(() => {
    const marked = list.current?.querySelector<HTMLElement>("[data-selected='true']");
    if (marked && list.current) list.current.scrollTop = marked.offsetTop - 60;
  }, [chosen, isReady]);
  if (text === undefined) return <Loading what="activations" />;
  const acts = text.saes[0]?.acts;
  const largest = Math.max(0, ...(acts?.values ?? []));
  return (
    <div className={styles.tokens} ref={list} tabIndex={0} role="region" aria-label="Strongest features at each token">
      <table className={table.table}>
        <thead>
          <tr>
            <th scope="col" className="num">
              Pos
            </th>
            <th scope="col">Token</th>
            <th scope="col">Features</th>
          </tr>
        </thead>
        <tbody>
          {text.tokens.map((token, i) => (
            <tr key={i} data-selected={i === chosen} onClick={() => onChoose(i === chosen ? undefined : i)}>
              <td className={`num ${table.muted}`}>{i}</td>
              <th scope="row" className={styles.token}>
                <TokenText token={token} />
              </th>
              <td className={styles.chips}>
                {strongest(row(acts, i), k_shown).map(({ feature, value }) => {
                  const step = heatStep(value, largest);
                  return (
                    <Link
                      key={feature}
                      className={styles.chip}
                      href={featureLink(sae, feature, { text: own_text })}
                      style={{ background: `var(--heat-${step})`, color: `var(--heat-ink-${step})` }}
                      onClick={(e) => e.stopPropagation()}
                    >
                      <b>{feature}</b> {formatActivation(value)}
                    </Link>
                  );
                })}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
