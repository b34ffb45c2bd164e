// A table of rows as data: its columns say what stands in the head and in each cell.
import type { ReactNode } from "react";

import table from "./Table.module.css";

export interface Column<Row> {
  title: ReactNode;
  // The row's heading; one column is.
  heads?: boolean;
  numeric?: boolean;
  className?: string | undefined;
  cell: (row: Row) => ReactNode;
}

interface Props<Row> {
  rows: readonly Row[];
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string;
  isSelected?: (row: Row) => boolean;
  // More attributes of a row, e.g. data-*.
  attributes?: (row: Row) => Record<string, string>;
}

export function DataTable<Row>({ rows, columns, keyOf, isSelected, attributes }: Props<Row>) {
  return (
    <table className={table.table}>
      <thead>
        <tr>
          {columns.map((column, i) => (
            <th key={i} scope="col" className={column.numeric ? "num" : undefined}>
              {column.title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)} data-selected={isSelected?.(row)} {...attributes?.(row)}>
            {columns.map((column, i) => {
              const name = [column.numeric && "num", column.className].filter(Boolean).join(" ") || undefined;
              return column.heads ? (
                <th key={i} scope="row" className={name}>
                  {column.cell(row)}
                </th>
              ) : (
                <td key={i} className={name}>
                  {column.cell(row)}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
