// The language models.
import type { Model, Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount, formatShort, shortHash } from "../../lib/format";
import { Card } from "../../ui/Card";
import { Empty } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import styles from "./HomeView.module.css";

interface Props {
  models: Model[];
  saes: Sae[];
  chosen: string;
  onChoose: (id: string) => void;
}

export function ModelTable({ models, saes, chosen, onChoose }: Props) {
  return (
    <Card title="Models" flush>
      {models.length === 0 ? (
        <Empty title="There is no model yet." command="featurescope model add ID DIR">
          <p>Add a directory in Hugging Face layout (config.json, tokenizer files, *.safetensors):</p>
        </Empty>
      ) : (
        <table className={table.table}>
          <thead>
            <tr>
              <th scope="col">Model</th>
              <th scope="col">Architecture</th>
              <th scope="col" className="num">
                Parameters
              </th>
              <th scope="col" className="num">
                Layers
              </th>
              <th scope="col" className="num">
                d_model
              </th>
              <th scope="col" className="num">
                Vocabulary
              </th>
              <th scope="col" className="num">
                Context
              </th>
              <th scope="col">Hash</th>
              <th scope="col">State</th>
              <th scope="col" className="num">
                SAEs
              </th>
            </tr>
          </thead>
          <tbody>
            {models.map((model) => {
              const n_saes = saes.filter((sae) => sae.modelId === model.id).length;
              return (
                <tr key={model.id} data-selected={model.id === chosen}>
                  <th scope="row">
                    <button
                      type="button"
                      className={styles.choose}
                      aria-pressed={model.id === chosen}
                      title="Show only this model's SAEs"
                      onClick={() => onChoose(model.id === chosen ? "" : model.id)}
                    >
                      {model.id}
                    </button>
                  </th>
                  <td>{model.architecture}</td>
                  <td className="num">{formatShort(model.nParameters)}</td>
                  <td className="num">{model.nLayers}</td>
                  <td className="num">{formatCount(model.dModel)}</td>
                  <td className="num">{formatCount(model.dVocab)}</td>
                  <td className="num">{formatCount(model.nCtx)}</td>
                  <td className={`mono ${table.muted}`} title={model.hash}>
                    {shortHash(model.hash)}
                  </td>
                  <td>
                    {model.loaded ? `loaded, ${model.dtype}` : "on disk"}
                    {!model.hasTokenizer && <span className={table.muted}>, no tokenizer</span>}
                  </td>
                  <td className="num">{n_saes}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </Card>
  );
}
