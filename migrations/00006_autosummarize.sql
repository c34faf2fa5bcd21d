-- +goose Up

-- A range of pages that is not summarized is read whole, and vacuum comes late to a table that only grows.
alter index usage_row_reservation set (autosummarize = on);
