// The strongest features over a text, with what the index knows of each.
import { useQueries } from "@tanstack/react-query";
import { Link } from "wouter";

import { featureQuery } from "../../api/queries";
import type { Sae, Token } from "../../gen/featurescope/v1/catalog_pb.js";
import type { SaeActivations } from "../../gen/featurescope/v1/explore_pb.js";
import { formatActivation, formatShare } from "../../lib/format";
import { column } from "../../lib/sparse";
import { strongestIndex } from "../../strip/strip";
import table from "../../ui/Table.module.css";
import { TokenText } from "../../ui/TokenText";
import { featureLink } from "../../url/links";
import styles from "./TextView.module.css";
import { Sparkbars } from "./Sparkbars";

interface Props {
  sae: Sae;
  found: SaeActivations;
  tokens: Token[];
  text: string;
  shown: number | undefined;
  onShow: (feature: number) => void;
}

export function TopFeatures({ sae, found, tokens, text, shown, onShow }: Props) {
  const corpus = sae.indexedCorpora[0];
  const known = useQueries({
    queries: found.topFeatures.map((feature) => ({
      ...featureQuery({ sae: sae.id, corpus: corpus ?? "" }, feature),
      enabled: corpus !== undefined,
    })),
  });
  if (found.topFeatures.length === 0) return <p className={styles.none}>No feature fires on this text.</p>;
  return (
    <div className={styles.scroll}>
      <table className={table.table}>
        <thead>
          <tr>
            <th scope="col">Feature</th>
            <th scope="col" className="num">
              Score
            </th>
            <th scope="col">Over the text</th>
            <th scope="col">Most on</th>
            {corpus !== undefined && (
              <>
                <th scope="col">Corpus: top token</th>
                <th scope="col" className="num">
                  Density
                </th>
              </>
            )}
            <th scope="col">
              <span className="sr-only">Show on the text</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {found.topFeatures.map((feature, i) => {
            const acts = column(found.acts, feature, tokens.length);
            const stats = known[i]?.data?.stats;
            return (
              <tr key={feature} data-selected={feature === shown}>
                <th scope="row">
                  <Link href={featureLink(sae.id, feature, { text })} data-row>
                    {feature}
                  </Link>
                </th>
                <td className="num">{formatActivation(found.topScores[i] ?? 0)}</td>
                <td>
                  <Sparkbars values={acts} />
                </td>
                <td className={styles.token}><TokenText token={tokens[strongestIndex(acts)]} /></td>
                {corpus !== undefined && (
                  <>
                    <td className={styles.token}><TokenText token={stats?.topToken} /></td>
                    <td className="num">{stats ? formatShare(stats.density) : "–"}</td>
                  </>
                )}
                <td>
                  <button
                    type="button"
                    className={styles.show}
                    aria-pressed={feature === shown}
                    aria-label={`Show feature ${feature} on the text`}
                    onClick={() => onShow(feature)}
                  >
                    Show
                  </button>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
