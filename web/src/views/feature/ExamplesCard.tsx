// The texts of the corpus on which the feature fires: the strongest, or samples of every activation band.
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { examplesQuery, type Index } from "../../api/queries";
import type { Example } from "../../gen/featurescope/v1/features_pb.js";
import { formatActivation, formatShare } from "../../lib/format";
import type { Context } from "../../strip/strip";
import { Card } from "../../ui/Card";
import { Choice } from "../../ui/Choice";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { Tip } from "../../ui/Term";
import { definitions } from "../../lib/definitions";
import { useUrlState } from "../../url/useUrlState";
import { ExampleRow } from "./ExampleRow";
import styles from "./Examples.module.css";
import { byBand, type Band } from "./bands";
import { featureCodec } from "./state";

interface Props {
  index: Index;
  feature: number;
  largest: number;
  onTest: (text: string) => void;
}

export function ExamplesCard({ index, feature, largest, onTest }: Props) {
  const [{ ex, ctx, breaks }, set] = useUrlState(featureCodec);
  const examples = useQuery(examplesQuery(index, feature, ex));
  return (
    <Card
      title="Examples"
      note={examples.data && `${examples.data.length}`}
      flush
      actions={
        <>
          <Choice
            label="Which examples"
            value={ex}
            options={[
              ["top", "Strongest"],
              ["bands", "By band"],
            ]}
            onChange={(next) => set({ ex: next })}
          />
          <Choice
            label="Context around the strongest token"
            value={ctx}
            options={[
              ["short", "Short"],
              ["medium", "Medium"],
              ["full", "Full"],
            ]}
            onChange={(next) => set({ ctx: next })}
          />
          <label className={styles.breaks}>
            <input type="checkbox" checked={breaks} onChange={(e) => set({ breaks: e.target.checked })} />
            Line breaks
          </label>
        </>
      }
    >
      {examples.isError ? (
        <div className={styles.pad}>
          <ErrorNote error={examples.error} onRetry={() => void examples.refetch()} />
        </div>
      ) : examples.data === undefined ? (
        <Loading what="examples" />
      ) : examples.data.length === 0 ? (
        <Empty title="The index holds no example of this feature." />
      ) : ex === "bands" ? (
        byBand(examples.data).map((band) => (
          <BandGroup key={band.band} band={band}>
            <Rows examples={band.examples} largest={largest} context={ctx} breaks={breaks} onTest={onTest} />
          </BandGroup>
        ))
      ) : (
        <Rows examples={examples.data} largest={largest} context={ctx} breaks={breaks} onTest={onTest} />
      )}
    </Card>
  );
}

function BandGroup({ band, children }: { band: Band; children: ReactNode }) {
  return (
    <section className={styles.band} aria-label={`Band ${band.band}`} data-testid="band">
      <h3>
        Band {band.band}
        <span>
          {formatActivation(band.low)} – {formatActivation(band.high)}
        </span>
        <span className={styles.share}>
          <span aria-hidden="true">
            <span style={{ width: `${Math.min(100, band.share * 100)}%` }} />
          </span>
          <Tip text={definitions.band_share.text}>{formatShare(band.share)} of activations</Tip>
        </span>
      </h3>
      {children}
    </section>
  );
}

interface RowsProps {
  examples: Example[];
  largest: number;
  context: Context;
  breaks: boolean;
  onTest: (text: string) => void;
}

function Rows({ examples, ...rest }: RowsProps) {
  return (
    <ol className={styles.rows}>
      {examples.map((example) => (
        <ExampleRow key={`${example.context}:${example.position}`} example={example} {...rest} />
      ))}
    </ol>
  );
}
