// The state of a feature table in the URL, and the request it stands for.
import type { FeatureListing, Index } from "../../api/queries";
import { FeatureOrder } from "../../gen/featurescope/v1/features_pb.js";
import type { DefinitionId } from "../../lib/definitions";
import {
  choiceParam,
  flagParam,
  intParam,
  optionalNumberParam,
  textParam,
  type Values,
} from "../../url/codec";

export const columns = {
  feature: { order: FeatureOrder.ORDER_FEATURE, definition: undefined },
  density: { order: FeatureOrder.ORDER_DENSITY, definition: "density" },
  max: { order: FeatureOrder.ORDER_MAX, definition: "max" },
  mean: { order: FeatureOrder.ORDER_MEAN, definition: "mean" },
  std: { order: FeatureOrder.ORDER_STD, definition: "std" },
  skewness: { order: FeatureOrder.ORDER_SKEWNESS, definition: "skewness" },
  kurtosis: { order: FeatureOrder.ORDER_KURTOSIS, definition: "kurtosis" },
  decoder_norm: { order: FeatureOrder.ORDER_DECODER_NORM, definition: "decoder_norm" },
} as const satisfies Record<string, { order: FeatureOrder; definition: DefinitionId | undefined }>;

export type Column = keyof typeof columns;
export const column_names = Object.keys(columns) as Column[];

export const page_sizes = [25, 50, 100, 250] as const;

export const listingCodec = {
  corpus: textParam(),
  sort: choiceParam(column_names, "feature"),
  dir: choiceParam(["asc", "desc"], "asc"),
  dmin: optionalNumberParam({ min: 0, max: 1 }),
  dmax: optionalNumberParam({ min: 0, max: 1 }),
  mmin: optionalNumberParam({ min: 0 }),
  mmax: optionalNumberParam({ min: 0 }),
  alive: flagParam(true),
  tok: textParam(),
  size: intParam(50, { min: 1, max: 1000 }),
  // The keyset token of the page, and its number for people.
  after: textParam(),
  page: intParam(1, { min: 1 }),
};

export type ListingState = Values<typeof listingCodec>;

export function toListing(index: Index, state: ListingState): FeatureListing {
  return {
    ...index,
    order: columns[state.sort].order,
    descending: state.dir === "desc",
    min_density: state.dmin,
    max_density: state.dmax,
    min_max: state.mmin,
    max_max: state.mmax,
    alive_only: state.alive,
    token_text: state.tok,
    page_size: state.size,
    page_token: state.after,
  };
}

// Back to the first page: page tokens are only good for the order and the filter they were made with.
export const first_page = { after: "", page: 1 } as const;

// A click on a column's head: sorts by it, largest first (the number column: smallest first); a second click
// turns the order round.
export function sortedBy(state: ListingState, column: Column): Partial<ListingState> {
  const natural = column === "feature" ? "asc" : "desc";
  const dir = state.sort !== column ? natural : state.dir === "asc" ? "desc" : "asc";
  return { sort: column, dir, ...first_page };
}

export function ariaSort(state: ListingState, column: Column): "ascending" | "descending" | "none" {
  if (state.sort !== column) return "none";
  return state.dir === "asc" ? "ascending" : "descending";
}
