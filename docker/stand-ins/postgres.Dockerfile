FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
COPY postgres-entrypoint.sh /entrypoint.sh
EXPOSE 5432
ENTRYPOINT ["/bin/sh", "/entrypoint.sh"]
CMD ["postgres"]
