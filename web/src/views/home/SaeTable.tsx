// The SAEs, with the corpora they are indexed over.
import { Link } from "wouter";

import type { Corpus, Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount } from "../../lib/format";
import { Button, ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { indexingFormLink, saeLink, trainingFormLink } from "../../url/links";
import styles from "./HomeView.module.css";

interface Props {
  saes: Sae[];
  corpora: Corpus[];
  model: string;
  onShowAll: () => void;
}

export function SaeTable({ saes, corpora, model, onShowAll }: Props) {
  return (
    <Card
      title="Sparse autoencoders"
      note={model === "" ? undefined : `of ${model}`}
      actions={
        <>
          {model !== "" && (
            <Button look="quiet" onClick={onShowAll}>
              Show all
            </Button>
          )}
          <ButtonLink href={trainingFormLink({ model })}>Train an SAE…</ButtonLink>
        </>
      }
      flush
    >
      {saes.length === 0 ? (
        <Empty
          title={model === "" ? "There is no SAE yet." : `There is no SAE of ${model} yet.`}
          command={`featurescope sae add ID PATH --model ${model === "" ? "MODEL" : model}`}
        >
          <p>Train one here, or add one in SAELens format:</p>
        </Empty>
      ) : (
        <table className={table.table}>
          <thead>
            <tr>
              <th scope="col">SAE</th>
              <th scope="col">Model</th>
              <th scope="col">Hook point</th>
              <th scope="col">Architecture</th>
              <th scope="col" className="num">
                d_sae
              </th>
              <th scope="col" className="num">
                d_in
              </th>
              <th scope="col">Index</th>
            </tr>
          </thead>
          <tbody>
            {saes.map((sae) => (
              <tr key={sae.id}>
                <th scope="row">
                  <Link href={saeLink(sae.id)}>{sae.id}</Link>
                </th>
                <td>{sae.modelId}</td>
                <td className="mono">{sae.hookName}</td>
                <td>
                  {sae.architecture}
                  {sae.k > 0 && <span className={table.muted}> k = {sae.k}</span>}
                </td>
                <td className="num">{formatCount(sae.dSae)}</td>
                <td className="num">{formatCount(sae.dIn)}</td>
                <td>
                  <IndexState sae={sae} corpora={corpora} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}

function IndexState({ sae, corpora }: { sae: Sae; corpora: Corpus[] }) {
  if (sae.vectorsOnly) return <span className={table.muted}>vectors only</span>;
  const corpus = corpora.find((c) => c.modelId === sae.modelId)?.id;
  return (
    <span className={styles.index}>
      {sae.indexedCorpora.map((id) => (
        <Link key={id} href={saeLink(sae.id, { corpus: id })} className={styles.chip}>
          <span aria-hidden="true">✓</span> {id}
        </Link>
      ))}
      {sae.indexedCorpora.length === 0 && (
        <>
          <span className={styles.none}>not indexed</span>
          <Link href={indexingFormLink({ sae: sae.id, corpus })}>Index…</Link>
        </>
      )}
    </span>
  );
}
